// Command broken does not compile.
package main

import "net"

func main() {
	var l int = net.Listen
	undefined(l)
}
