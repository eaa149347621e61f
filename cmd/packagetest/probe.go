package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// startProbe starts the visitor's probe and returns what waits for its report.
func (b *bench) startProbe(ctx context.Context, end string) (func() (Probed, error), error) {
	cmd := b.c.command(ctx, visitDir+"/bin/packagetest", "visit", "probe", end)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(out)
	if first, err := lines.ReadString('\n'); err != nil || strings.TrimSpace(first) != "probing" {
		_ = cmd.Wait()
		return nil, fmt.Errorf("the probe did not begin: %s", said.String())
	}
	return func() (p Probed, err error) {
		dec := json.NewDecoder(lines)
		err = dec.Decode(&p)
		if werr := cmd.Wait(); werr != nil && err == nil {
			err = werr
		}
		if err != nil {
			return p, fmt.Errorf("the probe: %w: %s", err, strings.TrimSpace(said.String()))
		}
		return p, nil
	}, nil
}
