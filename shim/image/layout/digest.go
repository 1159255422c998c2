package layout

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/containerd/errdefs"
)

// ParseDigest splits "sha256:<hex>" and proves that both halves are safe as file names.
func ParseDigest(digest string) (algorithm, hexsum string, err error) {
	algorithm, hexsum, _ = strings.Cut(digest, ":")
	h := NewHash(algorithm)
	if h == nil || len(hexsum) != 2*h.Size() || strings.Trim(hexsum, "0123456789abcdef") != "" {
		return "", "", fmt.Errorf("digest %.80q: want sha256: or sha512: and lower case hex", digest)
	}
	return algorithm, hexsum, nil
}

// NewHash returns the hash of an algorithm in a digest, or nil for unknown ones.
func NewHash(algorithm string) hash.Hash {
	switch algorithm {
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	}
	return nil
}

// Verify compares size bytes of r, from offset 0, with digest; DataLoss is the kind of a
// mismatch.
func Verify(r io.ReaderAt, size int64, digest string) error {
	algorithm, want, err := ParseDigest(digest)
	if err != nil {
		return err
	}
	h := NewHash(algorithm)
	// One byte more than size shows a file that grew.
	n, err := io.Copy(h, io.NewSectionReader(r, 0, size+1))
	if err != nil {
		return err
	}
	if n != size {
		return Damaged("is not %d bytes long", size)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return Damaged("has digest %s:%s instead of %s", algorithm, got, digest)
	}
	return nil
}

// Damaged is an error of the kind DataLoss about content that is not what its digest says.
func Damaged(format string, a ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), errdefs.ErrDataLoss)
}

// Sum is the digest of r's first size bytes.
func Sum(r io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(r, 0, size)); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
