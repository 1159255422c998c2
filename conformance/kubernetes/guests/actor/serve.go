package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// serve is a web service on a port, 8080 by default.
func serve(args []string) error {
	address := ":" + strconv.Itoa(number(args, 8080))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("serving", address)
	return http.Serve(l, routes())
}

func routes() http.Handler {
	var health atomic.Int64
	health.Store(http.StatusOK)
	mux := http.NewServeMux()
	answer := func(path string, f func(r *http.Request) (string, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			text, err := f(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			copyText(w, text)
		})
	}
	query := func(r *http.Request, name string) string { return r.URL.Query().Get(name) }
	milliseconds := func(r *http.Request) time.Duration {
		ms, _ := strconv.Atoi(query(r, "ms"))
		return time.Duration(ms) * time.Millisecond
	}

	answer("/", func(*http.Request) (string, error) {
		return fmt.Sprintf("hello from %s (%s)\n", os.Getenv("HOSTNAME"), runtime.GOOS), nil
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(health.Load())) })
	answer("/health", func(r *http.Request) (string, error) {
		code, err := strconv.Atoi(query(r, "code"))
		health.Store(int64(code))
		return "", err
	})
	answer("/env", func(r *http.Request) (string, error) { return os.Getenv(query(r, "name")), nil })
	answer("/read", func(r *http.Request) (string, error) {
		text, err := os.ReadFile(query(r, "path"))
		return string(text), err
	})
	answer("/write", func(r *http.Request) (string, error) {
		return "", os.WriteFile(query(r, "path"), []byte(query(r, "text")), 0o644)
	})
	answer("/list", func(r *http.Request) (string, error) {
		entries, err := os.ReadDir(query(r, "path"))
		names := make([]string, len(entries))
		for i, e := range entries {
			names[i] = e.Name()
		}
		return strings.Join(names, " "), err
	})
	answer("/lookup", func(r *http.Request) (string, error) {
		addresses, err := net.LookupHost(query(r, "host"))
		return strings.Join(addresses, " "), err
	})
	answer("/get", func(r *http.Request) (string, error) { return fetch(query(r, "url")) })
	answer("/spin", func(r *http.Request) (string, error) { return "", spin(milliseconds(r)) })
	answer("/slow", func(r *http.Request) (string, error) { time.Sleep(milliseconds(r)); return "slow but sure", nil })
	answer("/eat", func(r *http.Request) (string, error) {
		mib, err := strconv.Atoi(query(r, "mib"))
		if err != nil {
			return "", err
		}
		go func() { _ = eat(mib) }()
		return "", nil
	})
	answer("/exit", func(r *http.Request) (string, error) {
		code, err := strconv.Atoi(query(r, "code"))
		if err == nil {
			os.Exit(code)
		}
		return "", err
	})
	return mux
}

// fetch uses a new connection each time: a service chooses a pod per connection.
func fetch(url string) (string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return string(text), err
}

// get prints what a URL answers.
func get(args []string) error {
	text, err := fetch(args[0])
	fmt.Print(text)
	return err
}
