// Command euid says as whom it runs; in its image it is set-user-ID root.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Printf("Effective uid: %d\n", os.Geteuid()) }
