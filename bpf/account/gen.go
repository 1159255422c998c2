package account

//go:generate go tool -modfile=../../conformance/tools/bpf/go.mod bpf2go -cc clang -target bpfel -type counters -type pod account account.c -- -mcpu=v3 -O2 -g -Wall -Werror -I../include
