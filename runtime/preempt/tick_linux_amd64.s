#include "textflag.h"

// func clone(flags, stack uintptr, c *control) int64
//
// The child never returns: it ticks until control.stop. See thread.go for the offsets.
TEXT ·clone(SB), NOSPLIT, $0-32
	MOVQ flags+0(FP), DI
	MOVQ stack+8(FP), SI
	MOVQ c+16(FP), R12
	XORL DX, DX
	LEAQ 40(R12), R10
	XORL R8, R8
	MOVL $56, AX // clone
	SYSCALL
	TESTQ AX, AX
	JEQ  tick
	MOVQ AX, ret+24(FP)
	RET

tick:
	MOVL  28(R12), AX
	TESTL AX, AX
	JNE   exit
	LEAQ  28(R12), DI // sleep on stop, to hear of it at once
	MOVL  $128, SI // FUTEX_WAIT | FUTEX_PRIVATE_FLAG
	XORL  DX, DX
	LEAQ  8(R12), R10
	MOVL  $202, AX // futex
	SYSCALL
	INCQ  32(R12)
	MOVQ  0(R12), BX
	MOVL  (BX), AX
	TESTL AX, AX
	JNE   idle // the guest has not seen the last tick
	MOVL  $1, AX
	XCHGL AX, (BX)
	JMP   tick

idle:
	MOVL  $1, AX
	XCHGL AX, 24(R12)
	MOVL  28(R12), AX // stop and epoch are looked at after idle is set, as wake looks at idle after them
	TESTL AX, AX
	JNE   exit
	MOVL  (BX), AX
	TESTL AX, AX
	JEQ   busy
	LEAQ  24(R12), DI
	MOVL  $128, SI // FUTEX_WAIT | FUTEX_PRIVATE_FLAG
	MOVL  $1, DX
	XORL  R10, R10
	MOVL  $202, AX // futex
	SYSCALL

busy:
	XORL  AX, AX
	XCHGL AX, 24(R12)
	JMP   tick

exit:
	XORL DI, DI
	MOVL $60, AX // exit
	SYSCALL
	INT  $3
