package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// platforms is the sandbox's control interface (cmd/sandbox/README.md).
type platforms struct{ addr string }

func (p platforms) call(ctx context.Context, method, path string, body, into any) error {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("write to the sandbox: %w", err)
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.addr+path, in)
	if err != nil {
		return fmt.Errorf("ask the sandbox: %w", err)
	}
	r, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return fmt.Errorf("ask the sandbox: %w", err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read the sandbox's answer: %w", err)
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("sandbox %s %s: %s: %s", method, path, r.Status, bytes.TrimSpace(b))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read the sandbox's answer: %w", err)
	}
	return nil
}

type fault struct {
	Provider  string `json:"provider"`
	Operation string `json:"operation,omitempty"`
	Kind      string `json:"kind"`
	Times     int    `json:"times,omitempty"`
	Effect    *bool  `json:"effect,omitempty"`
	DelayMS   int    `json:"delay_ms,omitempty"`
}

func (p platforms) fault(ctx context.Context, f fault) error {
	return p.call(ctx, http.MethodPost, "/fault", f, nil)
}

func (p platforms) clear(ctx context.Context) error {
	return p.call(ctx, http.MethodPost, "/clear", struct{}{}, nil)
}

func (p platforms) link(ctx context.Context, phone string) error {
	return p.call(ctx, http.MethodPost, "/link", map[string]string{"phone": phone}, nil)
}

func (p platforms) otp(ctx context.Context, phone string) (string, error) {
	var a struct {
		OTP string `json:"otp"`
	}
	err := p.call(ctx, http.MethodGet, "/otp?phone="+url.QueryEscape(phone), nil, &a)
	return a.OTP, err
}

// effect is something that happened to a customer.
type effect struct {
	Operation string `json:"operation"`
	Identity  string `json:"identity"`
	Subject   string `json:"subject"`
	Count     int    `json:"count"`
	PINDigest string `json:"pin_digest"`
}

func (p platforms) effects(ctx context.Context) ([]effect, error) {
	var a struct {
		Effects []effect `json:"effects"`
	}
	err := p.call(ctx, http.MethodGet, "/effects", nil, &a)
	return a.Effects, err
}

// count says how often something happened to a customer.
func (p platforms) count(ctx context.Context, operation, subject string) (int, error) {
	all, err := p.effects(ctx)
	n := 0
	for _, e := range all {
		if e.Operation == operation && e.Subject == subject {
			n += e.Count
		}
	}
	return n, err
}

func (p platforms) violations(ctx context.Context) ([]string, error) {
	var a struct {
		Violations []struct {
			Text string `json:"text"`
		} `json:"violations"`
	}
	err := p.call(ctx, http.MethodGet, "/violations", nil, &a)
	var out []string
	for _, v := range a.Violations {
		out = append(out, v.Text)
	}
	return out, err
}
