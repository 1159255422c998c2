package launch

// failure is an error of the form "operation: object: cause (next step)".
type failure struct {
	op, object string
	err        error
	next       string
}

// fail describes err as the failure of op on object; next, when not empty, says what to do about it.
func fail(op, object string, err error, next string) error {
	return &failure{op: op, object: object, err: err, next: next}
}

func (f *failure) Error() string {
	s := f.op
	if f.object != "" {
		s += ": " + f.object
	}
	s += ": " + f.err.Error()
	if f.next != "" {
		s += " (" + f.next + ")"
	}
	return s
}

func (f *failure) Unwrap() error { return f.err }
