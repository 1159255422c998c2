// Package guests builds one program in each of several languages, with the tools that their users have, and runs them with
// hachi run. Go programs have samples/ and conformance/containerd.
package guests
