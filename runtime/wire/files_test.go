package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// pair is a control socket.
func pair(t testing.TB) (shim, engine *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	shim, engine = os.NewFile(uintptr(fds[0]), "shim"), os.NewFile(uintptr(fds[1]), "engine")
	t.Cleanup(func() {
		shim.Close()
		engine.Close()
	})
	return shim, engine
}

// file is a file that says its name.
func file(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(name); err != nil {
		t.Fatal(err)
	}
	return f
}

func content(t *testing.T, f *os.File) string {
	t.Helper()
	if f == nil {
		return ""
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 100))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFilesComeWithTheirConfiguration(t *testing.T) {
	module, artifact, root := file(t, "module"), file(t, "artifact"), file(t, "root")
	for _, c := range []struct {
		config Config
		files  Files
		want   [3]string
	}{
		{Config{Args: []string{"ls"}}, Files{}, [3]string{}},
		{Config{Module: &Module{Name: "m"}}, Files{Module: module}, [3]string{"module"}},
		{Config{Module: &Module{Name: "m", Compiled: true}}, Files{Module: module, Artifact: artifact}, [3]string{"module", "artifact"}},
		{Config{Module: &Module{Name: "m", Compiled: true}, Join: true}, Files{module, artifact, root}, [3]string{"module", "artifact", "root"}},
		{Config{Join: true}, Files{Root: root}, [3]string{"", "", "root"}},
		// More than a socket takes at once.
		{Config{Env: []string{strings.Repeat("x", 2<<20)}, Join: true}, Files{Root: root}, [3]string{"", "", "root"}},
	} {
		shim, engine := pair(t)
		sent := make(chan error, 1)
		go func() { sent <- Send(shim, &c.config, c.files) }()
		config, files, err := Receive(engine)
		if err := errors.Join(err, <-sent); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&c.config, config); diff != "" {
			t.Errorf("configuration changed on its way (-sent +received):\n%.1000s", diff)
		}
		got := [3]string{content(t, files.Module), content(t, files.Artifact), content(t, files.Root)}
		if got != c.want {
			t.Errorf("got files %q, want %q", got, c.want)
		}
		for _, f := range []*os.File{files.Module, files.Artifact, files.Root} {
			if f == nil {
				continue
			}
			if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("a received descriptor has flags %#x, %v; want close-on-exec", flags, err)
			}
		}
		files.Close()
	}
}

func TestSendRefusesWhatIsNotThere(t *testing.T) {
	shim, _ := pair(t)
	if err := Send(shim, &Config{Module: &Module{Compiled: true}}, Files{Module: file(t, "module")}); err == nil || !strings.Contains(err.Error(), "not there") {
		t.Errorf("got %v", err)
	}
}

// frame is a frame of any content.
func frame(body string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// message is the frame of m.
func message(m *Message) []byte {
	b, err := encode(m)
	if err != nil {
		panic(err)
	}
	return b
}

// send sends bytes with n descriptors and closes the socket.
func send(t testing.TB, control *os.File, b []byte, n int) {
	t.Helper()
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	var rights []byte
	if n > 0 {
		fds := make([]int, n)
		for i := range fds {
			fds[i] = null
		}
		rights = unix.UnixRights(fds...)
	}
	if _, err := unix.SendmsgN(int(control.Fd()), b, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		t.Fatal(err)
	}
	control.Close()
}

func TestReceiveRefusesBadFrames(t *testing.T) {
	for name, c := range map[string]struct {
		frame []byte
		files int
		want  string
	}{
		"a file too few":        {message(&Message{Config: &Config{Module: &Module{Name: "m"}}}), 0, "0 descriptors beside a configuration for 1"},
		"a file too many":       {message(&Message{Config: &Config{Module: &Module{Name: "m"}}}), 2, "2 descriptors beside a configuration for 1"},
		"more than there are":   {message(&Message{Config: &Config{Join: true}}), 200, "more descriptors"},
		"a file beside nothing": {message(&Message{Config: &Config{}}), 1, "1 descriptors beside a configuration for 0"},
		"not a configuration":   {message(&Message{Start: &Start{}}), 0, "not a configuration"},
		"another with files":    {message(&Message{Start: &Start{}}), 3, "not a configuration"},
		"nothing":               {message(&Message{}), 1, "not a configuration"},
		"garbage":               {frame("{]"), 3, "malformed"},
		"too long":              {[]byte("\xff\xff\xff\xff"), 3, "exceed"},
		"half a length":         {[]byte("\x01\x00"), 3, "unexpected EOF"},
		"half a body":           {[]byte("\x09\x00\x00\x00{}"), 3, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			shim, engine := pair(t)
			before := open(t)
			send(t, shim, c.frame, c.files)
			config, files, err := Receive(engine)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if config != nil || files != (Files{}) {
				t.Errorf("got %+v and %+v beside the error", config, files)
			}
			if left := open(t) - before; left != -1 { // the shim's end
				t.Errorf("%d descriptors are left", left+1)
			}
		})
	}
	shim, engine := pair(t)
	shim.Close()
	if _, _, err := Receive(engine); err != io.EOF {
		t.Errorf("a shim without a word: %v, want io.EOF", err)
	}
}

// TestReadDropsFiles: descriptors that a hostile engine sends stay nowhere.
func TestReadDropsFiles(t *testing.T) {
	shim, engine := pair(t)
	before := open(t)
	send(t, engine, message(&Message{Ready: &Ready{}}), 100)
	if m, err := Read(shim, 100); err != nil || m.Ready == nil {
		t.Errorf("got %+v, %v", m, err)
	}
	if left := open(t) - before; left != -1 {
		t.Errorf("%d descriptors are left", left+1)
	}
}

// open counts this process's descriptors.
func open(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// Whatever comes with whatever descriptors, none is lost.
func FuzzReceive(f *testing.F) {
	f.Add(message(&Message{Config: &Config{Module: &Module{Name: "m", Compiled: true}, Join: true}}), uint8(3))
	f.Add(message(&Message{Config: &Config{}}), uint8(1))
	f.Add([]byte("\xff\xff\xff\xff{}"), uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, n uint8) {
		if len(in) == 0 || len(in) > 1<<16 {
			return
		}
		shim, engine := pair(t)
		before := open(t)
		send(t, shim, in, int(n%6))
		config, files, err := Receive(engine)
		if (config == nil) == (err == nil) {
			t.Fatalf("Receive gave %v and %v", config, err)
		}
		files.Close()
		if left := open(t) - before; left != -1 {
			t.Fatal(fmt.Sprint(left+1, " descriptors are left"))
		}
	})
}
