package main

import (
	"context"
	"time"

	"gardu/cmd/demo/stage"
)

var providers = []string{"finpay", "netzme", "prepaid"}

// weather is what the platforms do in one life.
type weather func(context.Context, *round) error

func everywhere(ctx context.Context, r *round, f stage.Fault) error {
	for _, p := range providers {
		f.Provider = p
		if err := r.g.up.Fault(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func calm(context.Context, *round) error { return nil }

// slow platforms answer late; half of them also act late, when the asker may have
// died long ago.
func slow(ctx context.Context, r *round) error {
	late := r.dice.oneIn(2)
	f := stage.Fault{Kind: "slow", DelayMS: int(r.dice.between(time.Millisecond, lateMost) / time.Millisecond)}
	if late {
		no := false
		f.Effect = &no
	}
	return everywhere(ctx, r, f)
}

// silent platforms never answer, whether they did what was asked or not.
func silent(ctx context.Context, r *round) error {
	did := r.dice.oneIn(2)
	return everywhere(ctx, r, stage.Fault{Kind: "hang", Effect: &did, Times: 1 + r.dice.IntN(4)})
}

// lost answers: the platforms do what is asked, and what they answer is cut,
// broken, or an error.
func lost(ctx context.Context, r *round) error {
	kinds := []string{"break_after_effect", "answer_after_effect", "truncated", "garbage"}
	for range 2 {
		f := stage.Fault{Kind: kinds[r.dice.IntN(len(kinds))], Times: 1 + r.dice.IntN(3)}
		if f.Kind == "answer_after_effect" {
			f.Status = 500
		}
		if err := everywhere(ctx, r, f); err != nil {
			return err
		}
	}
	return nil
}

// away platforms cannot be reached.
func away(ctx context.Context, r *round) error {
	return everywhere(ctx, r, stage.Fault{Kind: "down"})
}

// mixed is any of the others.
func mixed(ctx context.Context, r *round) error {
	all := []weather{calm, slow, silent, lost, away}
	return all[r.dice.IntN(len(all))](ctx, r)
}

// flapping lets one platform after the other come and go. What it asks of the
// sandbox is not cut short by the end of ctx: it would take effect some time later.
func (r *round) flapping(ctx context.Context) {
	whole := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		p := providers[r.dice.IntN(len(providers))]
		if err := r.g.up.Fault(whole, stage.Fault{Provider: p, Kind: "down"}); err != nil {
			return
		}
		sleep(ctx, r.dice.between(10*time.Millisecond, 80*time.Millisecond))
		if err := r.g.up.Clear(whole); err != nil {
			return
		}
		sleep(ctx, r.dice.between(10*time.Millisecond, 80*time.Millisecond))
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
