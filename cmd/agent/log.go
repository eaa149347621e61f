package main

import (
	"fmt"
	"io"
	"log/slog"
)

// newLog makes the program's logger. Lines go to standard error, which systemd
// keeps; JSON is for machines, text for a person who runs gardu by hand.
func newLog(w io.Writer, s logSettings) (*slog.Logger, error) {
	var level slog.Level
	if s.Level != "" {
		if err := level.UnmarshalText([]byte(s.Level)); err != nil {
			return nil, fmt.Errorf("log.level %q is not known; use debug, info, warn or error", s.Level)
		}
	}
	o := &slog.HandlerOptions{Level: level}
	switch s.Format {
	case "", "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return nil, fmt.Errorf("log.format %q is not known; use json or text", s.Format)
}
