//go:build go1.26

package net

import "context"

// cgoLookupCNAME leaves the question to Go's resolver, with an error.
func cgoLookupCNAME(ctx context.Context, name string) (cname string, err error) {
	return "", errOnlyAddresses
}
