package guest

import (
	"context"
	"net"
	"os"

	"github.com/hachi-run/hachi/runtime/wire"
)

// Listen makes the sockets that listen for the guest, in the order of wanted. It is for the time before the process
// enters its jail, which forbids ports below 1024. The caller closes the files; after an error there are none.
func Listen(ctx context.Context, wanted []wire.Listener) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
			files = nil
		}
	}()
	// Plain TCP: an MPTCP socket, Go's default, cannot be steered by BPF's socket maps.
	config := net.ListenConfig{}
	config.SetMultipathTCP(false)
	for _, w := range wanted {
		l, err := config.Listen(ctx, "tcp", w.Address)
		if err != nil {
			return files, err // it names the address
		}
		f, err := l.(*net.TCPListener).File()
		l.Close() // f is a duplicate
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
