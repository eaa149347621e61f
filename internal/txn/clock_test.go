package txn_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

func TestTheMachinesClocks(t *testing.T) {
	read := txn.MachineClock()
	began := time.Now()
	a := read()
	time.Sleep(20 * time.Millisecond)
	b := read()
	ended := time.Now()
	require.NotEmpty(t, a.Boot)
	require.Equal(t, a.Boot, txn.MachineClock()().Boot, "the same over a restart of the program")
	require.Greater(t, b.Up, a.Up)
	require.Less(t, b.Up-a.Up, ended.Sub(began)+5*time.Second)
	require.WithinRange(t, b.Wall, began.Round(0), ended.Round(0))
	require.NotContains(t, b.Wall.String(), "m=", "no monotonic reading, which would not survive a write")
	text, err := os.ReadFile("/proc/uptime")
	require.NoError(t, err)
	up, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
	require.NoError(t, err)
	const tick = 0.1 // of /proc/uptime
	require.GreaterOrEqual(t, up, b.Up.Seconds()-tick)
	require.LessOrEqual(t, up, read().Up.Seconds()+tick)
}

func TestTheKernelsWordOnTheClockEndsWhenTheClockIsSet(t *testing.T) {
	require.False(t, txn.KeptOver(500*time.Millisecond, 500*time.Millisecond))
	require.True(t, txn.KeptOver(time.Second, time.Second), "in any case after a while")
	for _, jump := range []time.Duration{time.Second, -time.Second, 14 * 365 * 24 * time.Hour, -56 * 365 * 24 * time.Hour} {
		require.True(t, txn.KeptOver(time.Millisecond+jump, time.Millisecond), jump)
	}
}

// years are what a wall clock says that nobody keeps.
var years = []int{1970, 2040, 0}

func TestAWallClockThatJumpsDecidesNothing(t *testing.T) {
	for _, before := range years {
		for _, after := range years {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("from %d to %d, restart %v", before, after, restart), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						b := newBench(t, func(b *bench) { b.clock.set(before) })
						jump := func() {
							if restart {
								b.halt()
							}
							b.clock.set(after)
							if restart {
								b.start()
							}
						}
						b.platform.set(func(p *platform) { p.down = true })
						r := b.ask(txn.FinpayResetPIN, "k", alice)
						old := b.ask(txn.FinpayResetPIN, "old", bob)
						b.after(10*time.Minute, r.ID)
						jump()
						got := b.after(10*time.Minute, r.ID)
						require.Equal(t, txn.Queued, got.State, "twenty of its thirty minutes have passed")
						require.WithinDuration(t, b.clock.read().Wall.Add(10*time.Minute), got.Expires, 2*time.Second, "shown by the clock on the wall")
						b.platform.set(func(p *platform) { p.down = false })
						require.Equal(t, txn.Succeeded, b.after(2*time.Minute, r.ID).State)
						require.Equal(t, txn.Succeeded, b.get(old.ID).State)

						b.platform.set(func(p *platform) { p.down = true })
						late := b.ask(txn.FinpayResetPIN, "late", "081277777777")
						b.after(29*time.Minute, late.ID)
						b.clock.set(before)
						got = b.after(time.Minute+time.Second, late.ID)
						require.Equal(t, txn.Expired, got.State)
						require.WithinDuration(t, b.clock.read().Wall, got.Closed, 5*time.Second)
						b.halt()
						require.Equal(t, 2, b.platform.sent())
					})
				})
			}
		}
	}
}

func TestACooldownLastsAsLongAsItLasts(t *testing.T) {
	for _, before := range years {
		for _, after := range years {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("from %d to %d, restart %v", before, after, restart), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						b := newBench(t, func(b *bench) { b.clock.set(before); b.opts.Limits.CustomerHour = 2 })
						b.platform.set(func(p *platform) {
							p.submit = func(context.Context, txn.Call) txn.Answer { a := ok(); a.Cooldown = 10 * time.Minute; return a }
						})
						b.get(b.ask(txn.FinpayResetPIN, "1", alice).ID)
						if restart {
							b.halt()
						}
						b.clock.set(after)
						if restart {
							b.start()
						}
						defer func() { b.halt() }()
						time.Sleep(9 * time.Minute)
						_, err := b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "2", alice))
						var cool *txn.CooldownError
						require.ErrorAs(t, err, &cool)
						require.WithinDuration(t, b.clock.read().Wall.Add(time.Minute), cool.Until, 2*time.Second)
						time.Sleep(time.Minute)
						b.get(b.ask(txn.FinpayResetPIN, "3", alice).ID)
						time.Sleep(11 * time.Minute)
						_, err = b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "4", alice))
						var limit *txn.LimitError
						require.ErrorAs(t, err, &limit, "two an hour")
						require.WithinDuration(t, b.clock.read().Wall.Add(39*time.Minute), limit.Until, 2*time.Second)
						time.Sleep(39*time.Minute + time.Second)
						b.ask(txn.FinpayResetPIN, "5", alice)
					})
				})
			}
		}
	}
}

func TestAfterAReboot(t *testing.T) {
	for _, c := range []struct {
		name       string
		kept, keep bool // the clock is right before, and after
		year       int  // of the wall clock after the reboot
		away       time.Duration
		sent       bool
	}{
		{"both right, in time", true, true, 0, 10 * time.Minute, true},
		{"both right, too late", true, true, 0, 21 * time.Minute, false},
		{"not right after", true, false, 0, 10 * time.Minute, false},
		{"1970 after", true, false, 1970, 10 * time.Minute, false},
		{"2040 after", true, false, 2040, time.Minute, false},
		{"not right before", false, true, 0, 10 * time.Minute, false},
		{"kept, and yet before", true, true, 1970, 10 * time.Minute, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(b *bench) { b.clock.kept = c.kept })
				b.platform.set(func(p *platform) { p.down = true })
				r := b.ask(txn.FinpayResetPIN, "k", alice)
				b.after(10*time.Minute, r.ID)
				b.halt()
				b.platform.set(func(p *platform) { p.down = false })
				time.Sleep(c.away)
				b.clock.reboot(c.keep)
				b.clock.set(c.year)
				b.start()
				defer b.halt()
				got := b.after(2*time.Minute, r.ID)
				if c.sent {
					require.Equal(t, txn.Succeeded, got.State)
					return
				}
				if got.State == txn.Queued {
					got = b.after(29*time.Minute, r.ID)
				}
				require.Equal(t, txn.Expired, got.State, "at the latest when the machine itself has been up for so long")
				require.Zero(t, b.platform.sent(), "what may be too old is not sent")
			})
		})
	}
	t.Run("the clock is mended in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.platform.set(func(p *platform) { p.down = true })
			r := b.ask(txn.FinpayResetPIN, "k", alice)
			b.get(r.ID)
			b.halt()
			b.platform.set(func(p *platform) { p.down = false })
			b.clock.reboot(false)
			b.clock.set(1970)
			b.start()
			defer b.halt()
			require.Equal(t, txn.Queued, b.after(5*time.Minute, r.ID).State)
			b.clock.set(0)
			b.clock.keep(true)
			require.Equal(t, txn.Succeeded, b.after(2*time.Minute, r.ID).State)
		})
	})
	t.Run("a cooldown ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(b *bench) { b.clock.set(2040); b.clock.kept = false })
			b.platform.set(func(p *platform) {
				p.submit = func(context.Context, txn.Call) txn.Answer { a := ok(); a.Cooldown = 10 * time.Minute; return a }
			})
			b.get(b.ask(txn.FinpayResetPIN, "1", alice).ID)
			b.halt()
			b.clock.reboot(true)
			b.clock.set(0)
			b.start()
			defer b.halt()
			_, err := b.engine.Accept(t.Context(), ask(txn.FinpayResetPIN, "2", alice))
			var cool *txn.CooldownError
			require.ErrorAs(t, err, &cool)
			require.WithinDuration(t, b.clock.read().Wall.Add(10*time.Minute), cool.Until, time.Minute, "not until 2040")
			time.Sleep(10*time.Minute + time.Second)
			b.ask(txn.FinpayResetPIN, "3", alice)
		})
	})
	t.Run("a doubt is settled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(b *bench) { b.clock.set(2040) })
			b.platform.set(func(p *platform) { p.submit = func(context.Context, txn.Call) txn.Answer { return lost() } })
			r := b.ask(txn.FinpayResetPIN, "1", alice)
			require.Equal(t, txn.InDoubt, b.after(10*time.Minute, r.ID).State)
			b.halt()
			b.clock.reboot(false)
			b.clock.set(1970)
			b.start()
			defer b.halt()
			require.Equal(t, txn.InDoubt, b.after(4*time.Minute, r.ID).State)
			require.Equal(t, txn.Unresolved, b.after(12*time.Minute, r.ID).State)
		})
	})
	t.Run("finished records go although the machine is switched off every night", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, rarely, func(b *bench) { b.clock.kept = false })
			b.get(b.ask(txn.FinpayResetPIN, "1", alice).ID)
			for range 4 {
				time.Sleep(10 * time.Hour)
				b.halt()
				time.Sleep(14 * time.Hour)
				b.clock.reboot(false)
				b.start()
			}
			time.Sleep(2 * time.Minute)
			b.halt()
			require.Zero(t, b.shelf.count())
		})
	})
	t.Run("finished records stay within one boot, whatever the year", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, rarely)
			r := b.ask(txn.FinpayResetPIN, "1", alice)
			b.get(r.ID)
			b.clock.set(2040)
			b.restart()
			defer b.halt()
			b.after(40*time.Hour, r.ID)
			time.Sleep(9 * time.Hour)
			require.Zero(t, b.shelf.count())
		})
	})
}

func TestAMachineThatSlept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) { p.down = true })
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		b.after(5*time.Minute, r.ID)
		b.clock.sleep(40 * time.Minute)
		b.platform.set(func(p *platform) { p.down = false })
		require.Equal(t, txn.Expired, b.after(time.Minute, r.ID).State)
		require.Zero(t, b.platform.sent())
	})
}

// keeper is a platform that tells its time.
type keeper struct {
	*platform
	off *atomic.Int64 // nanoseconds; the smallest: it has said nothing yet
}

func (k keeper) Time() (time.Time, bool) {
	n := k.off.Load()
	return time.Now().Add(time.Duration(n)), n != -1
}

func TestAProvidersTimeGoesFirst(t *testing.T) {
	for _, c := range []struct {
		name   string
		kernel bool
		off    time.Duration
		state  txn.State
	}{
		{"the kernel does not know, the provider agrees", false, 3 * time.Second, txn.Succeeded},
		{"the kernel is sure, the provider disagrees", true, time.Hour, txn.Expired},
		{"the kernel does not know, the provider neither", false, -1, txn.Expired},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				off := new(atomic.Int64)
				off.Store(int64(c.off))
				b := newBench(t, func(b *bench) { b.keeper = off })
				b.platform.set(func(p *platform) { p.down = true })
				r := b.ask(txn.FinpayResetPIN, "k", alice)
				b.get(r.ID)
				b.halt()
				b.clock.reboot(c.kernel)
				b.platform.set(func(p *platform) { p.down = false })
				b.start()
				defer b.halt()
				require.Equal(t, c.state, b.after(31*time.Minute, r.ID).State)
			})
		})
	}
}

func TestAOneTimePasswordLivesByTheBootClock(t *testing.T) {
	for _, year := range years {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			defer b.halt()
			b.platform.set(func(p *platform) {
				p.submit = unbinding(txn.Answer{Outcome: txn.WentPending, HTTPStatus: 200, Await: txn.AwaitOTP, AwaitFor: 5 * time.Minute},
					func(string) txn.Answer { return ok() })
			})
			one, two := b.ask(txn.FinpayUnbind, "1", alice), b.ask(txn.FinpayUnbind, "2", bob)
			b.get(one.ID)
			b.clock.set(year)
			require.Equal(t, txn.Pending, b.after(4*time.Minute+50*time.Second, one.ID).State)
			_, err := b.engine.Supply(t.Context(), one.ID, secret.Clone([]byte("123456")))
			require.NoError(t, err)
			require.Equal(t, txn.Succeeded, b.get(one.ID).State)
			require.Equal(t, txn.Expired, b.after(11*time.Second, two.ID).State)
		})
	}
}

func TestAnAttemptsTimeIsThatOfTheWall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.halt()
		b.platform.set(func(p *platform) { p.down = true })
		r := b.ask(txn.FinpayResetPIN, "k", alice)
		b.after(5*time.Minute, r.ID)
		b.clock.set(2040)
		b.platform.set(func(p *platform) { p.down = false })
		b.after(2*time.Minute, r.ID)
		b.platform.mu.Lock()
		defer b.platform.mu.Unlock()
		wall := b.clock.read().Wall
		require.WithinDuration(t, wall, b.platform.calls[0].Attempt.Began, 3*time.Minute, "what goes to the provider is what the machine's clock says")
		require.WithinDuration(t, wall, b.platform.calls[0].Request.Created, 8*time.Minute)
	})
}
