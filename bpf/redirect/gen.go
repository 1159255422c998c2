package redirect

//go:generate go tool -modfile=../../conformance/tools/bpf/go.mod bpf2go -cc clang -target bpfel -type settings -type rule -type origin -type tuple -type kind outbound outbound.c -- -O2 -g -Wall -Werror -I../include
//go:generate go tool -modfile=../../conformance/tools/bpf/go.mod bpf2go -cc clang -target bpfel -type inbound inbound inbound.c -- -O2 -g -Wall -Werror -I../include
