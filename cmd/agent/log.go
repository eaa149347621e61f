package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
)

// newLog makes the program's logger. Lines go to standard error, which systemd
// keeps; JSON is for machines, text for a person who runs gardu by hand. In the
// system's journal each line has its level as the journal's priority, so that
// 'journalctl -p err' finds it.
func newLog(w io.Writer, s logSettings) (*slog.Logger, error) {
	var level slog.Level
	if s.Level != "" {
		if err := level.UnmarshalText([]byte(s.Level)); err != nil {
			return nil, fmt.Errorf("log.level %q is not known; use debug, info, warn or error", s.Level)
		}
	}
	o := &slog.HandlerOptions{Level: level}
	var to func(io.Writer) slog.Handler
	switch s.Format {
	case "", "json":
		to = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, o) }
	case "text":
		to = func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, o) }
	default:
		return nil, fmt.Errorf("log.format %q is not known; use json or text", s.Format)
	}
	if !isJournal(w) {
		return slog.New(to(w)), nil
	}
	p := prioritised{}
	for i, prefix := range priorities {
		p[i] = to(prefixed{w, prefix})
	}
	return slog.New(p), nil
}

// isJournal reports whether what is written to w goes to the system's journal as a
// unit's standard error (systemd.exec(5), JOURNAL_STREAM).
func isJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", sys.Dev, sys.Ino)
}

// priorities are sd-daemon(3)'s marks for debug, info, warn and error, which the journal
// takes away again.
var priorities = [...]string{"<7>", "<6>", "<4>", "<3>"}

// prefixed puts a mark before what a handler writes, which is one line at a time.
type prefixed struct {
	w    io.Writer
	mark string
}

func (p prefixed) Write(b []byte) (int, error) {
	n, err := p.w.Write(append([]byte(p.mark), b...))
	return max(n-len(p.mark), 0), err
}

// prioritised writes a record by the handler of its level.
type prioritised [len(priorities)]slog.Handler

func (p prioritised) of(l slog.Level) slog.Handler {
	switch {
	case l < slog.LevelInfo:
		return p[0]
	case l < slog.LevelWarn:
		return p[1]
	case l < slog.LevelError:
		return p[2]
	}
	return p[3]
}

// Enabled implements slog.Handler.
func (p prioritised) Enabled(ctx context.Context, l slog.Level) bool { return p.of(l).Enabled(ctx, l) }

// Handle implements slog.Handler.
func (p prioritised) Handle(ctx context.Context, r slog.Record) error {
	return p.of(r.Level).Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (p prioritised) WithAttrs(a []slog.Attr) slog.Handler {
	for i := range p {
		p[i] = p[i].WithAttrs(a)
	}
	return p
}

// WithGroup implements slog.Handler.
func (p prioritised) WithGroup(name string) slog.Handler {
	for i := range p {
		p[i] = p[i].WithGroup(name)
	}
	return p
}
