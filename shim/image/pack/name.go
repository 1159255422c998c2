package pack

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
)

// FullName completes an image's name the way Docker and Kubernetes do: "app" is
// "docker.io/library/app:latest", "localhost/app:v1" stays.
func FullName(short string) (string, error) {
	named, err := reference.ParseNormalizedNamed(short)
	if err != nil {
		return "", fmt.Errorf("image name %q: %w (want a form like localhost/app:v1)", short, err)
	}
	return reference.TagNameOnly(named).String(), nil
}

// remoteRef is a full name for the registry client. The client has its own rules for short names, so
// it gets the parts.
func remoteRef(full string, plain bool) (name.Reference, error) {
	named, err := reference.ParseNormalizedNamed(full)
	if err != nil {
		return nil, fmt.Errorf("image name %q: %w", full, err)
	}
	var options []name.Option
	domain := reference.Domain(named)
	if plain || loopback(domain) {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(domain, options...)
	if err != nil {
		return nil, err
	}
	repository := registry.Repo(reference.Path(named))
	if digested, ok := named.(reference.Digested); ok {
		return repository.Digest(digested.Digest().String()), nil
	}
	tag := "latest"
	if tagged, ok := named.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	return repository.Tag(tag), nil
}

// loopback says whether a registry is on this machine, where plain HTTP is no risk.
func loopback(domain string) bool {
	host := domain
	if at := strings.LastIndexByte(host, ':'); at >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:at]
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && address.IsLoopback()
}

// tagOf is the part after the last colon, for an archive's ref.name; the whole name when it ends in a
// digest.
func tagOf(full string) string {
	if at := strings.LastIndexByte(full, ':'); at > strings.LastIndexByte(full, '/') && !strings.Contains(full, "@") {
		return full[at+1:]
	}
	return full
}
