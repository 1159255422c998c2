// Command flags prints what was set when it was compiled.
package main

var version, tagged = "none", "no"

func main() { print(version, " ", tagged, "\n") }
