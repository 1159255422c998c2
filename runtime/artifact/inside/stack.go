package inside

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/tetratelabs/wazero/api"
)

// StackCeiling is the length from which wazero no longer grows a stack, but says "stack overflow" when it is full
// (callStackCeiling in internal/engine/wazevo/call_engine.go). It is a constant there.
const StackCeiling = 50_000_000

// ErrCatches says that a module catches exceptions.
var ErrCatches = errors.New("use stack: the module catches exceptions")

// UseStack makes f run on the given memory, of which its code uses the last usable bytes; then the guest traps with a
// stack overflow. stack must be longer than StackCeiling, which costs address space only if it is mapped and not
// touched, and must outlive f. f must not be running, and is good for one goroutine at a time as ever.
//
// Without it wazero starts with 10 KiB in Go's heap and doubles that until it is above the ceiling, copying as it goes:
// runaway recursion then has 120 MB resident at its end.
//
// It relies on the function being a callEngine, whose stack is only ever cloned to grow it, by snapshots, which hachi's
// guests do not have, and whenever a try_table is entered: a module that catches exceptions is ErrCatches, for it would
// copy the whole of stack each time.
func UseStack(f api.Function, stack []byte, usable int) error {
	bad := func(what string) error { return fmt.Errorf("use stack: %s: %w", what, ErrInternals) }
	v := reflect.ValueOf(f)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return bad(fmt.Sprintf("%T", f))
	}
	v = v.Elem()
	old, top, context := v.FieldByName("stack"), v.FieldByName("stackTop"), v.FieldByName("execCtx")
	if !old.IsValid() || old.Type() != reflect.TypeFor[[]byte]() || !top.IsValid() || top.Kind() != reflect.Uintptr ||
		!context.IsValid() || context.Kind() != reflect.Struct {
		return bad("fields stack, stackTop and execCtx")
	}
	bottom := context.FieldByName("stackBottomPtr")
	if !bottom.IsValid() || bottom.Type() != reflect.TypeFor[*byte]() {
		return bad("field execCtx.stackBottomPtr")
	}
	if old.Len() == 0 || top.Uint() != uint64(stackTop(old.Bytes())) || bottom.Pointer() != old.Pointer() {
		return bad("the stack lies elsewhere")
	}
	clauses := reflect.Value{}
	if parent := v.FieldByName("parent"); parent.Kind() == reflect.Pointer && !parent.IsNil() {
		if code := parent.Elem().FieldByName("parent"); code.Kind() == reflect.Pointer && !code.IsNil() {
			clauses = code.Elem().FieldByName("catchClauseTable")
		}
	}
	if clauses.Kind() != reflect.Slice {
		return bad("field catchClauseTable of the compiled module")
	}
	if clauses.Len() > 0 {
		return ErrCatches
	}
	if len(stack) <= StackCeiling || usable <= 0 || usable > len(stack) {
		return fmt.Errorf("use stack: %d of %d bytes: not within %d", usable, len(stack), StackCeiling)
	}
	*(*[]byte)(unsafe.Pointer(old.UnsafeAddr())) = stack
	*(*uintptr)(unsafe.Pointer(top.UnsafeAddr())) = stackTop(stack)
	*(**byte)(unsafe.Pointer(bottom.UnsafeAddr())) = &stack[len(stack)-usable]
	return nil
}

// stackTop is wazero's alignedStackTop: the last address that is a multiple of 16.
func stackTop(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[len(b)-1])) &^ 15 }
