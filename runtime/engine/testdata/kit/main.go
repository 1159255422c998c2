// Command kit is a guest with a word for each thing that a test of the engine wants to see.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

func main() {
	switch os.Args[1] {
	case "exit":
		os.Exit(number(os.Args[2]))
	case "show":
		dir, err := os.Getwd()
		fmt.Printf("%q\n%q\n%s %v\n", os.Args, os.Environ(), dir, err)
	case "ready":
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "spin":
		fmt.Println("ready")
		for n := 0; n >= 0; n = (n + 1) & 0xffff {
		}
	case "eat": // that many MiB for each line
		fmt.Println("ready")
		var all [][]byte
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			b := make([]byte, number(os.Args[2])<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
			fmt.Println("ate", len(all))
		}
	case "flood":
		if _, err := os.Stdout.Write(make([]byte, number(os.Args[2]))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "cat":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			os.Exit(1)
		}
	case "echo":
		echo()
	case "panic":
		panic("as asked")
	}
}

// echo serves the first listener.
func echo() {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(2)
		}
		go func() {
			_, _ = io.Copy(c, c)
			c.Close()
		}()
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}
