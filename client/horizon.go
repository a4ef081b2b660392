package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
)

// dedupHorizon is how long the broker of a connection says that it recognises message ids.
type dedupHorizon struct {
	horizon time.Duration // with a margin; 0 if it does not say
	heard   time.Time
	asked   bool // and not answered
}

// DefaultHorizon is for how long a message may be published again to a broker that does not
// say for how long it recognises it. It is somewhat less than the broker's default, one hour.
const DefaultHorizon = 50 * time.Minute

const (
	codesLine    = "codes on\n"
	whoamiLine   = "whoami\n"
	prefixWhoami = "Whoami: "
	// horizonFresh is how old the broker's answer may be when old messages are sent again: what it
	// remembers depends on what all others publish.
	horizonFresh = 5 * time.Second
	// horizonMargin is the part that is taken off, because the broker forgets on while a
	// message is on its way. Of the default window it leaves DefaultHorizon.
	horizonMargin = 6
	maxWindow     = int64(100 * 365 * 24 * time.Hour / time.Second)
)

// horizonOf is for how long a message may be published again to a broker that says this.
func horizonOf(who *sealmq.Who) time.Duration {
	if who.DedupWindow <= 0 {
		return 0
	}
	seconds := min(who.DedupWindow, maxWindow)
	if who.DedupReach != nil {
		seconds = min(seconds, max(*who.DedupReach, 0))
	}
	d := time.Duration(seconds) * time.Second
	return max(d-d/horizonMargin, 1)
}

// readWho reads an answer to whoami; brokers that do not know it say nothing.
func readWho(line []byte) *sealmq.Who {
	who := new(sealmq.Who)
	text, ok := bytes.CutPrefix(line, []byte(prefixWhoami))
	if !ok || json.Unmarshal(text, who) != nil {
		return new(sealmq.Who)
	}
	return who
}

// checkName compares what the broker calls this client with what its certificate says.
func (c *Client) checkName(who *sealmq.Who) error {
	if c.cfg.Name == "" || who.ID == "" || who.ID == c.cfg.Name {
		return nil
	}
	return fmt.Errorf("the broker says that this client is %.80q, but its certificate says %q; do not trust this broker, and ask its operator", who.ID, c.cfg.Name)
}

// remember takes an answer. The caller holds mu.
func (c *Client) remember(horizon time.Duration) {
	c.dedup = dedupHorizon{horizon: horizon, heard: c.cfg.Now()}
}

// Horizon is for how long after its first publish a message may be published again now: for
// as long as the broker surely recognises it, by what it said last, and no longer than
// limit, if that is not 0, or else Config.ResendFor. DefaultHorizon is used for a broker
// that does not say.
func (c *Client) Horizon(limit time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return horizon(cmp.Or(limit, c.cfg.ResendFor), c.dedup.horizon)
}

// horizon is the shorter one of the owner's limit and the broker's, where 0 says nothing.
func horizon(limit, broker time.Duration) time.Duration {
	switch {
	case broker == 0:
		return cmp.Or(limit, DefaultHorizon)
	case limit == 0:
		return broker
	}
	return min(limit, broker)
}

// stale reports whether the broker should be asked again. The caller holds mu.
func (c *Client) stale() bool {
	return c.conn != nil && c.dedup.horizon != 0 && c.cfg.Now().Sub(c.dedup.heard) > horizonFresh
}

// refreshHorizon asks the broker again, if that is due, and does not wait.
func (c *Client) refreshHorizon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dedup.asked || !c.stale() {
		return
	}
	c.dedup.asked = true
	c.out.addLine(whoamiLine, entry{kind: kindSetup, id: verbWhoami})
	c.kick()
}

// verbWhoami marks refreshHorizon's question.
const verbWhoami = "whoami"

// RefreshHorizon asks the broker for how long it recognises messages, unless it said so just
// now, and waits up to DialTimeout. Without an answer what was said last counts; a new
// connection begins with the question.
func (c *Client) RefreshHorizon(ctx context.Context) {
	c.mu.Lock()
	stale := c.stale()
	c.mu.Unlock()
	if !stale {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	_, _ = c.Whoami(ctx)
}
