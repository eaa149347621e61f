package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"gardu/internal/prepaid"
)

// maxSample is far above any token of the platform.
const maxSample = 1 << 20

// checkSample tries a token that the prepaid platform has published or sent against
// the settings and the key in the token, without a network: what a document leaves
// open about the envelope is found out before the first customer stands there. It
// prints names, kinds and lengths of fields, never a value.
func (a *app) checkSample(ctx context.Context, file string) error {
	set, err := loadSettings(a.config)
	if err != nil {
		return err
	}
	card := tableOf[*prepaidSettings](set)
	if card == nil {
		return fmt.Errorf("%s has no [prepaid] table; add one, then try the sample", a.config)
	}
	f, err := os.Open(file) //nolint:gosec // G304: the operator names the file on purpose
	if err != nil {
		return fmt.Errorf("read the sample: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSample))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read the sample: %w", err)
	}
	keys, err := set.openKeystore(slog.New(slog.DiscardHandler))
	if err != nil {
		return withCode(exitToken, err)
	}
	defer func() { _ = keys.Close() }()
	if err := keys.Ready(ctx); err != nil {
		return withCode(exitToken, err)
	}
	key, err := keys.Cipher(card.EnvelopeKey)
	if err != nil {
		return withCode(exitToken, err)
	}
	s, err := prepaid.ReadSample(ctx, card.Config, key, text)
	if err != nil {
		return err
	}
	if a.json {
		if err := a.printJSON(s); err != nil {
			return err
		}
	} else {
		for _, f := range s.Fields {
			_, _ = fmt.Fprintf(a.out, "      %-24s %s, %d\n", f.Name, f.Kind, f.Length)
		}
		for _, f := range s.Findings {
			verdict := "ok  "
			if !f.Fits {
				verdict = "FAIL"
			}
			_, _ = fmt.Fprintf(a.out, "%s  %-20s %s\n", verdict, f.Setting, f.Text)
		}
	}
	if !s.Fits() {
		return errors.New("the sample does not fit the settings; each FAIL above says what to change")
	}
	return nil
}
