// Command httpd is a guest: an ordinary net/http server on the listener that the runtime hands in.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "listen:", err)
		os.Exit(1)
	}
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		// Read whole first: HTTP/1 servers may drop the rest of a body once they answer.
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(b)
	})
	http.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(200 * time.Millisecond)
		fmt.Fprint(w, "slept")
	})
	http.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "/greeting")
	})
	fmt.Println("serving")
	fmt.Fprintln(os.Stderr, http.Serve(l, nil))
	os.Exit(1)
}
