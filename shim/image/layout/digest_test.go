package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Of what go-digest takes, ParseDigest takes sha256 and sha512.
func TestParseDigest(t *testing.T) {
	sum := strings.Repeat("0123456789abcdef", 8)
	for text, want := range map[string]bool{
		"sha256:" + sum[:64]:                  true,
		"sha512:" + sum:                       true,
		"sha384:" + sum[:96]:                  false,
		"sha256:" + sum[:63]:                  false,
		"sha256:" + sum[:65]:                  false,
		"sha512:" + sum[:64]:                  false,
		"sha256:" + strings.ToUpper(sum[:64]): false,
		"sha256:" + sum[:63] + "g":            false,
		"sha256:" + sum[:31] + "/" + sum[:32]: false,
		"sha256:" + sum[:63] + "\n":           false,
		"SHA256:" + sum[:64]:                  false,
		"sha256" + sum[:64]:                   false,
		" sha256:" + sum[:64]:                 false,
		"sha256:../../../../etc/passwd":       false,
		":" + sum[:64]:                        false,
		"":                                    false,
	} {
		algorithm, hexsum, err := ParseDigest(text)
		if (err == nil) != want || err == nil && algorithm+":"+hexsum != text {
			t.Errorf("%q: got %q, %q, %v", text, algorithm, hexsum, err)
		}
		if theirs := digest.Digest(text).Validate(); want && theirs != nil || !want && theirs == nil && !strings.HasPrefix(text, "sha384:") {
			t.Errorf("%q: go-digest says %v", text, theirs)
		}
	}
}

// A name of 64 digits is no sum of anything until Verify has said so.
func TestVerify(t *testing.T) {
	content := strings.NewReader("content")
	sum := sha256.Sum256([]byte("content"))
	good := "sha256:" + hex.EncodeToString(sum[:])
	if err := Verify(content, 7, good); err != nil {
		t.Error(err)
	}
	for _, size := range []int64{6, 8} {
		if err := Verify(content, size, good); err == nil {
			t.Errorf("size %d passed", size)
		}
	}
	if err := Verify(content, 7, "sha256:"+strings.Repeat("0", 64)); err == nil || !strings.Contains(err.Error(), good) {
		t.Errorf("another digest: got %v", err)
	}
}
