package pack

import "encoding/json"

// parse reads a document that passes check, of package layout, as image-spec's type T, which has more than hachi reads of it.
func parse[T, C any](raw []byte, check func([]byte) (C, error)) (*T, error) {
	if _, err := check(raw); err != nil {
		return nil, err
	}
	out := new(T)
	if err := json.Unmarshal(raw, out); err != nil {
		return nil, err
	}
	return out, nil
}
