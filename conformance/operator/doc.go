// Package operator runs hachi's commands for the people who look after a node, top, flows, doctor, agent and prepare,
// beside containers of a real containerd.
package operator
