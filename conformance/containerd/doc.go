// Package containerd holds the cases that every containerd must see hachi pass: one table, run under each
// version in daemon.Versions, with a Linux image on runc (which proves the table), a Linux image on hachi and a
// Wasm image on hachi. The same program, probe, is in all images.
//
// Narrow a run with -args -kinds=wasm -versions=2.4.2.
package containerd
