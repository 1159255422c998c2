package cri

import (
	"os"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/hachi-run/hachi/internal/testenv/linux"
	"github.com/hachi-run/hachi/internal/testenv/offline"
)

// The registries of the suite's images, and the prefixes of their names.
var registries = []string{"registry.k8s.io", "gcr.io", "k8s.gcr.io"}

const (
	e2e     = "registry.k8s.io/e2e-test-images/"
	staging = "gcr.io/k8s-staging-cri-tools/"
)

// The user and groups of the image test-image-predefined-group.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\ndefault-user:x:1000:1000::/home/default-user:/bin/sh\n"
	group  = "root:x:0:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"
)

// scripts are words that Debian's busybox lacks. The suite knows nginx by its name, a file, and two words on its command
// line.
var scripts = map[string]string{
	"ipcs":  "cat /proc/sysvipc/shm",
	"nginx": "mkdir -p /var/run; echo $$ > /var/run/nginx.pid; trap exit TERM; httpd -f -p $1 -h /www & wait",
	"pgrep": `ps -o pid,comm | awk -v word="$1" 'NR > 1 && $2 ~ word { print $1 }'`,
}

// fill gives the registry every image that the suite asks for by a tag, made of a busybox.
func fill(place *offline.Place) error {
	busybox, err := linux.Busybox()
	if err != nil {
		return err
	}
	for word, script := range scripts {
		busybox = append(busybox, linux.File{Path: "bin/" + word, Data: "#!/bin/sh\n" + script, Mode: 0o755})
	}
	page := linux.File{Path: "www/index.html", Data: "hello\n"}
	serve := func(port string) v1.Config {
		return v1.Config{Entrypoint: []string{"/bin/nginx", port, "master process"}}
	}
	pause := v1.Config{Entrypoint: []string{"/bin/tail", "-f", "/dev/null"}}
	type image struct {
		ref    string
		config v1.Config
		files  []linux.File
	}
	shell := v1.Config{Cmd: []string{"sh"}}
	user := func(name string) v1.Config { return v1.Config{Cmd: []string{"sh"}, User: name} }
	all := []image{
		{e2e + "busybox:1.29-2", shell, nil},
		{e2e + "nginx:1.14-2", serve("80"), []linux.File{page}},
		{e2e + "httpd:2.4.39-4", v1.Config{Entrypoint: []string{"sh", "-c", "echo httpd starts; exec httpd -f -p 80 -h /www"}}, []linux.File{page}},
		{e2e + "nonewprivs:1.3", v1.Config{Entrypoint: []string{"/euid"}}, []linux.File{{Path: "euid", From: os.Getenv("EUID_PROGRAM"), Mode: 0o4755}}},
		{staging + "hostnet-nginx-" + os.Getenv("ARCH"), serve("12003"), []linux.File{page}},
		{staging + "test-image-predefined-group", user("1000"), []linux.File{{Path: "etc/passwd", Data: passwd}, {Path: "etc/group", Data: group}}},
		{staging + "test-image-user-uid", user("1002"), nil},
		{staging + "test-image-user-username", user("www-data"), nil},
		{staging + "test-image-user-uid-group", user("1003:users"), nil},
		{staging + "test-image-user-username-group", user("www-data:users"), nil},
		{"registry.k8s.io/pause:3.9", pause, nil},
		{"k8s.gcr.io/pause:3.9", pause, nil},
	}
	for _, name := range []string{"latest", "tag:test", "tag:all", "1:latest", "2:latest", "3:latest"} {
		all = append(all, image{staging + "test-image-" + name, shell, []linux.File{{Path: "name", Data: name}}})
	}
	for _, tag := range []string{"1", "2", "3"} {
		all = append(all, image{staging + "test-image-tags:" + tag, shell, []linux.File{{Path: "name", Data: "tags"}}})
	}
	for _, i := range all {
		img, err := linux.Image(append(slices.Clip(busybox), i.files...), i.config)
		if err != nil {
			return err
		}
		if err := place.Push(i.ref, img); err != nil {
			return err
		}
	}
	return nil
}
