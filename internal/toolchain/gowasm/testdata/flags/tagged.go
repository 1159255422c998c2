//go:build bees

package main

func init() { tagged = "bees" }
