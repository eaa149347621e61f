package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"
	"time"
)

// report prints the table. Its error says that a promise was broken.
func report(rows []*tally, took time.Duration) error {
	sum := &tally{Kind: "all"}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(cells ...string) {
		for _, c := range cells {
			_, _ = fmt.Fprint(w, c, "\t")
		}
		_, _ = fmt.Fprintln(w)
	}
	line("kind", "trials", "acked", "unheard", "once", "settled", "unresolved", "expired", "cancelled", "rejected",
		"doubled", "lost", "wrong", "open", "unopened", "secrets", "audit", "skipped")
	show := func(t *tally) {
		cells := []string{t.Kind}
		for _, n := range []int{t.Trials, t.Acked, t.Unheard, t.Once, t.Settled, t.Unresolved, t.Expired, t.Cancelled, t.Rejected,
			t.Doubled, t.Lost, t.Wrong, t.Open, t.Unopened, t.Secrets, t.Audit, t.Skipped} {
			cells = append(cells, strconv.Itoa(n))
		}
		line(cells...)
	}
	for _, t := range rows {
		show(t)
		sum.add(t)
	}
	show(sum)
	fmt.Println()
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	for _, t := range rows {
		if t.Skipped > 0 {
			fmt.Printf("\nskipped: %d trials of %s: %s", t.Skipped, t.Kind, t.Why)
		}
	}
	if sum.Missed > 0 {
		fmt.Printf("\n%d trials did not reach the system call chosen for them within their time and were killed then.", sum.Missed)
	}
	fmt.Printf("\n%d trials (%d power cuts) in %.0f s, %d skipped. Once, settled, unresolved, expired, cancelled and rejected are honest ends.\n",
		sum.Trials, sum.Cuts, took.Seconds(), sum.Skipped)
	if sum.failed() {
		for _, d := range sum.Details {
			fmt.Println("  ", d)
		}
		return fmt.Errorf("not every request came to exactly one honest end: doubled %d, lost %d, wrong %d, open %d, journals unopened %d, secrets in clear %d, audit records broken %d, unaccounted for %d",
			sum.Doubled, sum.Lost, sum.Wrong, sum.Open, sum.Unopened, sum.Secrets, sum.Audit, sum.balance())
	}
	if sum.Acked == 0 {
		return errors.New("nothing was acknowledged, so nothing was shown")
	}
	fmt.Printf("Every one of %d acknowledged requests came to exactly one honest end.\n", sum.Acked)
	return nil
}
