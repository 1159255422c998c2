package gowasm

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hachi-run/hachi/internal/testenv"
)

// gRPC over h2c, with the guest as server and as client.
func TestGRPC(t *testing.T) {
	module := built(t, "services")
	t.Run("server", func(t *testing.T) {
		port := freePort(t)
		g := start(t, "-p", "127.0.0.1:"+port+":50051", module, "grpc-server", ":50051")
		_ = g.dial("127.0.0.1:" + port).Close()
		c, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Talk")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			want, got := fmt.Sprint("line ", i), new(wrapperspb.StringValue)
			if err := s.SendMsg(wrapperspb.String(want)); err != nil {
				t.Fatal(err)
			}
			if err := s.RecvMsg(got); err != nil || got.Value != want {
				t.Fatalf("said %q, heard %q, %v", want, got.Value, err)
			}
		}
		_ = s.CloseSend()
		if err := s.RecvMsg(new(wrapperspb.StringValue)); err != io.EOF {
			t.Errorf("end of the stream: %v", err)
		}
		got := new(wrapperspb.StringValue)
		if err := c.Invoke(ctx, "/test.Echo/Say", wrapperspb.String("quit"), got); err != nil || got.Value != "quit" {
			t.Errorf("said quit, heard %q, %v", got.Value, err)
		}
		g.wait()
	})
	t.Run("client", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		s.RegisterService(&echo, nil)
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		start(t, module, "grpc-client", l.Addr().String()).wait()
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// echo is the service test.Echo of testdata/services.
var echo = grpc.ServiceDesc{
	ServiceName: "test.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		m := new(wrapperspb.StringValue)
		return m, decode(m)
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		for {
			m := new(wrapperspb.StringValue)
			if err := s.RecvMsg(m); err != nil {
				if err == io.EOF {
					return nil
				}
				return err
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}}},
}

// database/sql with the MySQL driver against a MariaDB of the test's own.
func TestMySQL(t *testing.T) {
	address := mariaDB(t)
	start(t, built(t, "services"), "mysql", "bee:honey@tcp("+address+")/hive").wait()
}

// mariaDB starts a server with a database hive on a free port of loopback, as an unprivileged user.
func mariaDB(t *testing.T) (address string) {
	t.Helper()
	server, install := testenv.NeedTool(t, "mariadbd"), testenv.NeedTool(t, "mariadb-install-db")
	dir := testenv.ShortDir(t)
	data := filepath.Join(dir, "data")
	setup := "CREATE DATABASE hive;\nCREATE USER 'bee'@'%' IDENTIFIED BY 'honey';\nGRANT ALL ON hive.* TO 'bee'@'%';\n"
	if err := os.WriteFile(filepath.Join(dir, "init.sql"), []byte(setup), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	as := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		const nobody = 65534
		as.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		for _, d := range []string{dir, data} {
			if err := os.Chown(d, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.LockOSThread() // for Pdeathsig
	t.Cleanup(runtime.UnlockOSThread)
	c := exec.Command(install, "--no-defaults", "--datadir="+data, "--tmpdir="+dir, "--auth-root-authentication-method=normal", "--skip-test-db")
	c.SysProcAttr, c.Dir = as, dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	port := freePort(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c = exec.Command(server, "--no-defaults", "--datadir="+data, "--tmpdir="+dir, "--bind-address=127.0.0.1", "--skip-name-resolve", "--port="+port,
		"--socket="+filepath.Join(dir, "s"), "--pid-file="+filepath.Join(dir, "pid"), "--init-file="+filepath.Join(dir, "init.sql"),
		"--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M")
	c.SysProcAttr, c.Dir, c.Stdout, c.Stderr = as, dir, log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = c.Process.Kill()
			<-ended
		}
	})
	address = "127.0.0.1:" + port
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			// It greets when it is ready.
			_ = conn.SetDeadline(deadline)
			_, err := conn.Read(make([]byte, 1))
			_ = conn.Close()
			if err == nil {
				return address
			}
		}
		select {
		case err := <-ended:
			ended <- err
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("mariadbd: %v\n%s", err, text)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("mariadbd does not answer")
		}
	}
}
