// Command logger is a logging program as binary:// URIs start it. Its arguments are words in pairs: out FILE, and how it
// behaves.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

func main() {
	words := map[string]string{}
	for i := 1; i+1 < len(os.Args); i += 2 {
		words[os.Args[i]] = os.Args[i+1]
	}
	ready := os.NewFile(5, "ready")
	switch words["how"] {
	case "dies":
		os.Exit(1)
	case "never ready":
		time.Sleep(time.Hour)
	case "says ready":
		_, _ = ready.Write([]byte{1})
	}
	ready.Close()
	out, err := os.OpenFile(words["out"], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		os.Exit(2)
	}
	fmt.Fprintln(out, strings.Join(os.Environ(), " "))
	var texts [2]string
	var w sync.WaitGroup
	for i := range texts {
		w.Go(func() {
			b, _ := io.ReadAll(os.NewFile(uintptr(3+i), "stream"))
			texts[i] = string(b)
		})
	}
	w.Wait()
	time.Sleep(50 * time.Millisecond) // whoever does not wait for us sees nothing
	fmt.Fprintf(out, "%d %.40q %d %.40q\n", len(texts[0]), texts[0], len(texts[1]), texts[1])
}
