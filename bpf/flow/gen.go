package flow

//go:generate go tool -modfile=../../conformance/tools/bpf/go.mod bpf2go -cc clang -target bpfel -type record -type wish -type record_kind -type record_direction -type record_verdict flow flow.c -- -mcpu=v3 -O2 -g -Wall -Werror -I../include
