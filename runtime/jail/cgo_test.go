//go:build cgo

package jail

const cgoEnabled = true
