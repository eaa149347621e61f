package stage

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

// Platforms is the sandbox's control interface (cmd/sandbox/README.md).
type Platforms struct{ addr string }

// Platforms is the platforms' side of the stage.
func (s *Stage) Platforms() Platforms { return Platforms{s.Control} }

func (p Platforms) call(ctx context.Context, method, path string, body, into any) error {
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

// Fault is what a platform is to do wrong.
type Fault struct {
	Provider  string `json:"provider"`
	Operation string `json:"operation,omitempty"`
	Kind      string `json:"kind"`
	Times     int    `json:"times,omitempty"`
	Effect    *bool  `json:"effect,omitempty"`
	DelayMS   int    `json:"delay_ms,omitempty"`
	Status    int    `json:"status,omitempty"`
}

// Fault lets a platform misbehave.
func (p Platforms) Fault(ctx context.Context, f Fault) error {
	return p.call(ctx, http.MethodPost, "/fault", f, nil)
}

// Clear ends every fault.
func (p Platforms) Clear(ctx context.Context) error {
	return p.call(ctx, http.MethodPost, "/clear", struct{}{}, nil)
}

// Link completes the binding page of a phone, as its owner would.
func (p Platforms) Link(ctx context.Context, phone string) error {
	return p.call(ctx, http.MethodPost, "/link", map[string]string{"phone": phone}, nil)
}

// SetCustomer says whether a phone is linked.
func (p Platforms) SetCustomer(ctx context.Context, phone string, linked bool) error {
	return p.call(ctx, http.MethodPost, "/customer", map[string]any{"phone": phone, "linked": linked}, nil)
}

// Reset begins with empty books and without faults.
func (p Platforms) Reset(ctx context.Context) error {
	return p.call(ctx, http.MethodPost, "/reset", struct{}{}, nil)
}

// OTP is the newest one-time password sent to a phone.
func (p Platforms) OTP(ctx context.Context, phone string) (string, error) {
	var a struct {
		OTP string `json:"otp"`
	}
	err := p.call(ctx, http.MethodGet, "/otp?phone="+url.QueryEscape(phone), nil, &a)
	return a.OTP, err
}

// Effect is something that happened to a customer, as the sandbox counts it.
type Effect struct {
	Operation string `json:"operation"`
	Identity  string `json:"identity"`
	Subject   string `json:"subject"`
	Count     int    `json:"count"`
	PINDigest string `json:"pin_digest"`
}

// Effects is everything that happened to customers so far.
func (p Platforms) Effects(ctx context.Context) ([]Effect, error) {
	var a struct {
		Effects []Effect `json:"effects"`
	}
	err := p.call(ctx, http.MethodGet, "/effects", nil, &a)
	return a.Effects, err
}

// Count says how often something happened to a customer.
func (p Platforms) Count(ctx context.Context, operation, subject string) (int, error) {
	all, err := p.Effects(ctx)
	n := 0
	for _, e := range all {
		if e.Operation == operation && e.Subject == subject {
			n += e.Count
		}
	}
	return n, err
}

// Violations is which rules of theirs the platforms saw broken.
func (p Platforms) Violations(ctx context.Context) ([]string, error) {
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
