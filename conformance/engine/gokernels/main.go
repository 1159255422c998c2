//go:build wasip1

// Command gokernels is what services in Go spend their time with, as functions for a host to call: each does its work as
// often as it is told.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

func main() {}

// sink keeps the compiler from leaving work out.
var sink any

//go:wasmexport sort
func sort(rounds int64) {
	numbers := make([]int, 500)
	for range rounds {
		for i := range numbers {
			numbers[i] = i * 7919 & 1023
		}
		slices.Sort(numbers)
	}
	sink = numbers
}

//go:wasmexport fib
func fib(n int64) { sink = fibonacci(n) }

func fibonacci(n int64) int64 {
	if n < 2 {
		return n
	}
	return fibonacci(n-1) + fibonacci(n-2)
}

//go:wasmexport maps
func maps(rounds int64) {
	counts := map[string]int{}
	words := strings.Fields(strings.Repeat("one two three four five six seven eight nine ten ", 10))
	for range rounds {
		for _, w := range words {
			counts[w]++
		}
	}
	sink = counts
}

//go:wasmexport format
func format(rounds int64) {
	for i := range rounds {
		sink = fmt.Sprintf("%d %s %v %x", i, "text", 1.5, i)
	}
}

type order struct {
	ID    int
	Name  string
	Price []float64
}

//go:wasmexport json
func jsonThereAndBack(rounds int64) {
	for range rounds {
		text, err := json.Marshal([]order{{1, "first", []float64{1, 2.5}}, {2, "second", nil}})
		if err != nil {
			panic(err)
		}
		var orders []order
		if err := json.Unmarshal(text, &orders); err != nil {
			panic(err)
		}
		sink = orders
	}
}

//go:wasmexport request
func request(rounds int64) {
	const text = "GET /orders?id=1 HTTP/1.1\r\nHost: shop\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
	for range rounds {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			panic(err)
		}
		sink = r.URL.Query()
	}
}
