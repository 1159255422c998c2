// Command services is an ordinary program that talks gRPC and SQL. Its first argument says what to do.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var commands = map[string]func(string) error{"grpc-server": grpcServer, "grpc-client": grpcClient, "mysql": mysql}

func main() {
	if len(os.Args) != 3 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "services: grpc-server ADDRESS, grpc-client ADDRESS or mysql DSN")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "services %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	fmt.Println("ok", os.Args[1])
}

// The service test.Echo, without a compiler for its four lines of proto.
var echo = grpc.ServiceDesc{
	ServiceName: "test.Echo",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		for {
			m := new(wrapperspb.StringValue)
			if err := s.RecvMsg(m); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}}},
}

// grpcServer serves until somebody says "quit".
func grpcServer(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	quit := make(chan struct{}, 1)
	s := grpc.NewServer()
	desc := echo
	desc.Methods = []grpc.MethodDesc{{MethodName: "Say", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		m := new(wrapperspb.StringValue)
		err := decode(m)
		if m.Value == "quit" {
			quit <- struct{}{}
		}
		return m, err
	}}}
	s.RegisterService(&desc, struct{}{})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-quit:
		s.GracefulStop()
		return <-ended
	}
}

func grpcClient(address string) error {
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// Many at once over the one connection.
	results := make(chan error)
	for i := range 20 {
		go func() {
			want, got := fmt.Sprint("message ", i), new(wrapperspb.StringValue)
			err := c.Invoke(ctx, "/test.Echo/Say", wrapperspb.String(want), got)
			if err == nil && got.Value != want {
				err = fmt.Errorf("said %q, heard %q", want, got.Value)
			}
			results <- err
		}()
	}
	for range 20 {
		err = errors.Join(err, <-results)
	}
	if err != nil {
		return err
	}
	s, err := c.NewStream(ctx, &echo.Streams[0], "/test.Echo/Talk")
	if err != nil {
		return err
	}
	for i := range 50 {
		want, got := fmt.Sprint("line ", i), new(wrapperspb.StringValue)
		if err := s.SendMsg(wrapperspb.String(want)); err != nil {
			return err
		}
		if err := s.RecvMsg(got); err != nil || got.Value != want {
			return fmt.Errorf("said %q, heard %q, %v", want, got.Value, err)
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if err := s.RecvMsg(new(wrapperspb.StringValue)); err != io.EOF {
		return fmt.Errorf("end of the stream: %v", err)
	}
	return nil
}

func mysql(dsn string) error {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := db.ExecContext(ctx, "CREATE TABLE bees (id INT PRIMARY KEY, name VARCHAR(100) NOT NULL) CHARACTER SET utf8mb4"); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	insert, err := tx.PrepareContext(ctx, "INSERT INTO bees VALUES (?, ?)")
	if err != nil {
		return err
	}
	for i := range 100 {
		if _, err := insert.ExecContext(ctx, i, fmt.Sprintf("bee %d 蜂", i)); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	// Several connections of the pool at once.
	results := make(chan error)
	for i := range 8 {
		go func() {
			var name string
			err := db.QueryRowContext(ctx, "SELECT name FROM bees WHERE id = ? AND SLEEP(0.05) = 0", i).Scan(&name)
			if want := fmt.Sprintf("bee %d 蜂", i); err == nil && name != want {
				err = fmt.Errorf("row %d: %q, not %q", i, name, want)
			}
			results <- err
		}()
	}
	for range 8 {
		err = errors.Join(err, <-results)
	}
	if err != nil {
		return err
	}
	var count int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM bees").Scan(&count); err != nil || count != 100 {
		return fmt.Errorf("%d rows, %v", count, err)
	}
	// A query is cancelled, and the pool goes on.
	short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	start := time.Now()
	if _, err := db.ExecContext(short, "DO SLEEP(5)"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
		return fmt.Errorf("a query with a deadline: %v after %v", err, time.Since(start))
	}
	return db.PingContext(ctx)
}
