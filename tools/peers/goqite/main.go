// Goqite is the peer that the journal's figures are measured beside: goqite, a
// queue in SQLite, told to be durable per item (WAL with synchronous FULL).
//
//	goqite FILE SCHEMA
//
// makes a queue in FILE, with the tables that the module brings in its file SCHEMA, and
// obeys lines "producers milliseconds bytes" on standard input: that many producers
// send messages of that many bytes for that long. It answers each with a line
// "messages seconds".
package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	_ "github.com/mattn/go-sqlite3"
	"maragu.dev/goqite"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: goqite FILE SCHEMA")
		os.Exit(2)
	}
	if err := serve(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "goqite:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, file, schema string) error {
	tables, err := os.ReadFile(schema)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite3", "file:"+file+"?_journal=WAL&_synchronous=FULL&_timeout=5000&_txlock=immediate")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1) // as its documentation advises; more only wait for each other
	if _, err := db.ExecContext(ctx, string(tables)); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	q := goqite.New(goqite.NewOpts{DB: db, Name: "figures"})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var producers, millis, size int
		if _, err := fmt.Sscan(lines.Text(), &producers, &millis, &size); err != nil {
			return fmt.Errorf("read %q: %w", lines.Text(), err)
		}
		n, took, err := turn(ctx, q, producers, time.Duration(millis)*time.Millisecond, make([]byte, size))
		if err != nil {
			return err
		}
		fmt.Println(n, took.Seconds())
	}
	return lines.Err()
}

func turn(ctx context.Context, q *goqite.Queue, producers int, long time.Duration, body []byte) (n int, took time.Duration, _ error) {
	sent, errs := make([]int, producers), make([]error, producers)
	began := time.Now()
	var work sync.WaitGroup
	for i := range producers {
		work.Go(func() {
			for errs[i] == nil && time.Since(began) < long {
				if errs[i] = q.Send(ctx, goqite.Message{Body: body}); errs[i] == nil {
					sent[i]++
				}
			}
		})
	}
	work.Wait()
	for _, s := range sent {
		n += s
	}
	return n, time.Since(began), errors.Join(errs...)
}
