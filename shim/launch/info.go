package launch

import (
	"io"
	"strings"
)

// runtimeName is what containerd's users write after --runtime.
const runtimeName = "io.containerd.hachi.v1"

// Set by the linker: -X github.com/hachi-run/hachi/shim/launch.version=v1.2.3. Otherwise the program's
// build information has to do.
var version, revision string

// info answers with a containerd.types.RuntimeInfo. The request on stdin are the runtime options as an
// Any; of those only runc's name matters here.
func (l *Launcher) info() error {
	input, err := readAll(l.Stdin, maxInput)
	if err != nil {
		return fail("read options", "stdin", err, "")
	}
	number, commit := l.versions()
	v := appendString(nil, 1, number)
	v = appendString(v, 2, commit)
	b := appendString(nil, 1, runtimeName)
	b = appendMessage(b, 2, v)
	typeURL, value := parseAny(input)
	if typeURL != "" {
		b = appendAny(b, 3, typeURL, value) // containerd wants its options back
	}
	path, _ := getenv(l.Env, "PATH")
	b = appendAny(b, 4, featuresURL, runtimeFeatures(runcName(typeURL, value), path))
	if _, err := l.Stdout.Write(b); err != nil {
		return fail("answer containerd", "stdout", unwrapPath(err), "")
	}
	return nil
}

// printVersion prints what a person asking -v wants to know.
func (l *Launcher) printVersion() error {
	number, commit := l.versions()
	_, err := io.WriteString(l.Stdout, "containerd-shim-hachi-v1 "+strings.TrimSpace(number+" "+commit)+"\n")
	return err
}

func (l *Launcher) versions() (number, commit string) {
	number, commit = version, revision
	if number != "" && commit != "" {
		return number, commit
	}
	info, err := readBuildInfo(l.Self)
	if err != nil {
		return number, commit
	}
	for line := range strings.SplitSeq(info, "\n") {
		fields := strings.Split(line, "\t")
		if fields[0] == "mod" && len(fields) > 2 && number == "" {
			number = fields[2]
		}
		if rest, ok := strings.CutPrefix(line, "build\tvcs.revision="); ok && commit == "" {
			commit = rest
		}
	}
	return number, commit
}
