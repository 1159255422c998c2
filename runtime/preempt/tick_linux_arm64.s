#include "textflag.h"

// func clone(flags, stack uintptr, c *control) int64
//
// The child never returns: it ticks until control.stop. See thread.go for the offsets.
TEXT ·clone(SB), NOSPLIT, $0-32
	MOVD flags+0(FP), R0
	MOVD stack+8(FP), R1
	MOVD c+16(FP), R19
	MOVD ZR, R2
	MOVD ZR, R3
	ADD  $40, R19, R4
	MOVD $220, R8 // clone
	SVC
	CBZ  R0, child
	MOVD R0, ret+24(FP)
	RET

child:
	MOVD 0(R19), R20  // epoch
	ADD  $24, R19, R21 // idle
	ADD  $28, R19, R22 // stop
	MOVD $1, R23

tick:
	LDARW (R22), R9
	CBNZW R9, exit
	MOVD  R22, R0 // sleep on stop, to hear of it at once
	MOVD  $128, R1 // FUTEX_WAIT | FUTEX_PRIVATE_FLAG
	MOVD  ZR, R2
	ADD   $8, R19, R3
	MOVD  $98, R8 // futex
	SVC
	MOVD  32(R19), R9
	ADD   $1, R9
	MOVD  R9, 32(R19)
	LDARW (R20), R9
	CBNZW R9, idle // the guest has not seen the last tick
	STLRW R23, (R20)
	B     tick

idle:
	STLRW R23, (R21)
	DMB   $0xb
	LDARW (R22), R9 // stop and epoch are looked at after idle is set, as wake looks at idle after them
	CBNZW R9, exit
	LDARW (R20), R9
	CBZW  R9, busy
	MOVD  R21, R0
	MOVD  $128, R1 // FUTEX_WAIT | FUTEX_PRIVATE_FLAG
	MOVD  $1, R2
	MOVD  ZR, R3
	MOVD  $98, R8 // futex
	SVC

busy:
	STLRW ZR, (R21)
	DMB   $0xb
	B     tick

exit:
	MOVD ZR, R0
	MOVD $93, R8 // exit
	SVC
	BRK
