package audit

import "time"

// WithWait has the record's lock waited for so long, and not for two seconds.
func (o Options) WithWait(d time.Duration) Options { o.wait = d; return o }
