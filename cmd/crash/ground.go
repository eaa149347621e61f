package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gardu/cmd/crash/booth"
	"gardu/cmd/demo/stage"
)

// The times of the campaign. A platform's late effect comes within lateMost, so
// that read-back, which believes "not there" only after quiet, can see it.
const (
	callLimit  = 800 * time.Millisecond
	lateMost   = 600 * time.Millisecond
	quietTime  = 2 * time.Second
	settleTime = 4 * time.Second
)

const (
	boothClient = "gardu-crash"
	fixedOTP    = "90471836"
)

// ground is what the rounds of one lane stand on: a stage with its own sandbox,
// since a platform's faults hit everybody who speaks with it.
type ground struct {
	dir   string
	stage *stage.Stage
	procs *stage.Processes
	up    stage.Platforms
	sign  []byte
	seed  uint64
	n     int // rounds so far
}

func newGround(ctx context.Context, dir string, seed uint64) (*ground, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make the booths' signing key: %w", err)
	}
	sign, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write the booths' signing key: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("write the booths' public key: %w", err)
	}
	g := &ground{dir: dir, sign: sign, seed: seed}
	g.stage, err = stage.SetUp(ctx, dir, stage.Plan{
		Delivery: stage.Delivery{
			RetryBase: "20ms", RetryMax: "200ms", ReadBase: "50ms", ReadMax: "300ms",
			Quiet: quietTime.String(), Unresolved: settleTime.String(), Probe: "1s", Call: callLimit.String(),
		},
		PINMax: pinDigits, OTP: fixedOTP, OTPLife: agentOTP.String(), State: g.journal(), AnyCard: true, CountRepeats: true,
		Partners: []stage.Partner{{
			ClientID:  boothClient,
			PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})),
		}},
	})
	if err == nil {
		g.procs, err = g.stage.StartSandbox(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(stage.RuntimeDir(dir)))
	}
	g.up = g.stage.Platforms()
	return g, nil
}

// diskDir is where a round's disk is made, if it has one of its own.
func (g *ground) diskDir() string { return filepath.Join(g.dir, "disk") }

// journal is the folder of a round's journal and audit record, on that disk where
// there is one. The agent's configuration names it too.
func (g *ground) journal() string { return filepath.Join(g.diskDir(), "mnt", "journal") }

func (g *ground) close() error {
	g.procs.Stop()
	return os.RemoveAll(g.stage.Run())
}

// boothFile writes the configuration of the booths of one round.
func (g *ground) boothFile(state, keyDir string) (string, error) {
	envelope, err := hex.DecodeString(g.stage.EnvelopeKey)
	if err != nil {
		return "", fmt.Errorf("read the envelope key: %w", err)
	}
	s := g.stage
	cfg := booth.Config{
		State: state, KeyDir: keyDir, KEK: booth.NewKey(32), PINKEK: booth.NewKey(32), Sign: g.sign,
		ClientID: boothClient, Finpay: s.Finpay, FinpaySecret: s.FinpaySecret, MerchantID: stage.MerchantID,
		Origin: stage.Origin, ChannelID: stage.ChannelID, Netzme: s.Netzme, NetzmeSecret: s.NetzmeSecret,
		Prepaid: s.Prepaid, PrepaidClient: stage.PrepaidClient, BankID: stage.BankID, EnvelopeKey: envelope,
		APIKey: s.APIKey, SecureCode: s.SecureCode, PINMax: pinDigits,
		Clock: g.clockFile(), CAFile: s.CAFile(), Call: callLimit, Quiet: quietTime, Settle: settleTime,
	}
	b, err := json.Marshal(cfg)
	if err != nil {
		return "", fmt.Errorf("write the booth's configuration: %w", err)
	}
	file := filepath.Join(g.dir, "booth.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return "", fmt.Errorf("write the booth's configuration: %w", err)
	}
	return file, nil
}

// clockFile says how far the wall clock of the booths is set.
func (g *ground) clockFile() string { return filepath.Join(g.stage.Run(), "clock") }

// setClock sets the wall clock of the booths, also of one that runs.
func (g *ground) setClock(by time.Duration) error {
	file := g.clockFile()
	if err := errors.Join(os.WriteFile(file+".new", []byte(by.String()), 0o600), os.Rename(file+".new", file)); err != nil {
		return fmt.Errorf("set the booths' clock: %w", err)
	}
	return nil
}

// emptyKeys does to the keys of PINs what a power cut does to a folder on tmpfs.
func emptyKeys(dir string) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return fmt.Errorf("empty the key folder: %w", err)
	}
	return nil
}
