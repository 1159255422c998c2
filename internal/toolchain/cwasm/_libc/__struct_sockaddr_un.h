/* wasi-libc's has no room for a name. */
#ifndef __wasilibc___struct_sockaddr_un_h
#define __wasilibc___struct_sockaddr_un_h

#include <stddef.h>

#include <__typedef_sa_family_t.h>

struct sockaddr_un {
	_Alignas(max_align_t) sa_family_t sun_family;
	char sun_path[108];
};

#endif
