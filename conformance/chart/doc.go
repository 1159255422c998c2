// Package chart proves the Helm chart: its templates, what it refuses, and its life in a real cluster.
//
// Golden files are written anew with
//
//	go test ./conformance/chart -run Golden -update
package chart
