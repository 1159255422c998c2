package daemon

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"golang.org/x/sys/unix"
)

// CRI is what the CRI plugin is told.
type CRI struct {
	// Handlers maps a runtime handler to its runtime type. "runc" is always there.
	Handlers map[string]string
	// Sandboxer is the sandbox controller of the handlers other than runc; default "podsandbox".
	Sandboxer string
	// PauseImage is imported by the test; nothing is pulled.
	PauseImage string
	// CNIBin and CNIConf are the folders of CNI plugins and of their configuration.
	CNIBin, CNIConf string
	// Extra is TOML appended to the file.
	Extra string
}

func (o Options) root() string  { return filepath.Join(o.Dir, "root") }
func (o Options) state() string { return filepath.Join(o.Dir, "state") }

// config writes the file that this version of containerd reads.
func (o Options) config() (string, error) {
	out, err := exec.Command(filepath.Join(o.Bin, "containerd"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask containerd for its version: %w", err)
	}
	fields := strings.Fields(string(out)) // containerd github.com/... v1.7.35 commit
	if len(fields) < 3 {
		return "", fmt.Errorf("ask containerd for its version: %q", out)
	}
	data := struct {
		Options
		Root, State, Socket string
		RestrictOOM         bool
	}{o, o.root(), o.state(), filepath.Join(o.Dir, "c.sock"), !canLowerOOMScore()}
	tmpl := config2
	if strings.HasPrefix(strings.TrimPrefix(fields[2], "v"), "1.") {
		tmpl = config1
	}
	var b bytes.Buffer
	if err := template.Must(template.New("config.toml").Parse(tmpl)).Execute(&b, data); err != nil {
		return "", err
	}
	return b.String(), nil
}

// canLowerOOMScore tells whether a process may get a smaller oom_score_adj than it has; pause containers
// ask for -998 and virtual machines in the cloud often take the capability away.
func canLowerOOMScore() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&hdr, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// Both files keep the snapshotters that need block devices and NRI's socket, which is one for the whole
// machine, out of the way.
const config2 = `version = 3
root = '{{.Root}}'
state = '{{.State}}'
disabled_plugins = [{{if not .CRI}}'io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.runtime', 'io.containerd.cri.v1.images', 'io.containerd.podsandbox.controller.v1.podsandbox', {{end}}'io.containerd.nri.v1.nri', 'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.erofs', 'io.containerd.internal.v1.tracing']
[grpc]
address = '{{.Socket}}'
[ttrpc]
address = '{{.Socket}}.ttrpc'
[plugins.'io.containerd.internal.v1.opt']
path = '{{.Dir}}/opt'
{{- with .CRI}}
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{{.PauseImage}}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = {{$.RestrictOOM}}
disable_apparmor = true
enable_unprivileged_ports = false
enable_unprivileged_icmp = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{{.CNIBin}}']
conf_dir = '{{.CNIConf}}'
{{- range $handler, $type := .Handlers}}
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{{$handler}}]
runtime_type = '{{$type}}'
pod_annotations = ['hachi.run/*']
container_annotations = ['hachi.run/*']
{{- with $.CRI.Sandboxer}}
sandboxer = '{{.}}'
{{- end}}
{{- end}}
{{.Extra}}
{{- end}}
`

// In 1.7 the first runtime that a file names replaces the default ones, so runc is named too.
const config1 = `version = 2
root = '{{.Root}}'
state = '{{.State}}'
disabled_plugins = [{{if not .CRI}}'io.containerd.grpc.v1.cri', {{end}}'io.containerd.nri.v1.nri', 'io.containerd.snapshotter.v1.blockfile', 'io.containerd.internal.v1.tracing']
[grpc]
address = '{{.Socket}}'
[ttrpc]
address = '{{.Socket}}.ttrpc'
[plugins.'io.containerd.internal.v1.opt']
path = '{{.Dir}}/opt'
{{- with .CRI}}
[plugins.'io.containerd.grpc.v1.cri']
sandbox_image = '{{.PauseImage}}'
restrict_oom_score_adj = {{$.RestrictOOM}}
disable_apparmor = true
[plugins.'io.containerd.grpc.v1.cri'.cni]
bin_dir = '{{.CNIBin}}'
conf_dir = '{{.CNIConf}}'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
{{- range $handler, $type := .Handlers}}
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.{{$handler}}]
runtime_type = '{{$type}}'
pod_annotations = ['hachi.run/*']
container_annotations = ['hachi.run/*']
{{- end}}
{{.Extra}}
{{- end}}
`
