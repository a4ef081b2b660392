package sealmq_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq"
)

func TestNormalizeFillsDefaultsOnly(t *testing.T) {
	want := sealmq.QueueOptions{
		DeliveryLimit: 16,
		AckTimeout:    30 * time.Second,
		Prefetch:      100,
		MaxLineBytes:  65_536,
	}
	if got := (sealmq.QueueOptions{}).Normalize(); got != want {
		t.Errorf("defaults %+v, want %+v", got, want)
	}
	if got := full.Normalize(); got != full {
		t.Errorf("Normalize changed what was set: %+v", got)
	}
	if got := want.Normalize(); got != want {
		t.Errorf("Normalize twice: %+v", got)
	}
}

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		o  sealmq.QueueOptions
		ok bool
	}{
		"zero":                  {sealmq.QueueOptions{}, true},
		"all set":               {full, true},
		"defaults":              {sealmq.QueueOptions{}.Normalize(), true},
		"dead letters":          {sealmq.DeadLetterOptions(full), true},
		"most credit":           {sealmq.QueueOptions{Prefetch: sealmq.MaxPrefetch}, true},
		"too much credit":       {sealmq.QueueOptions{Prefetch: sealmq.MaxPrefetch + 1}, false},
		"negative credit":       {sealmq.QueueOptions{Prefetch: -1}, false},
		"longest line":          {sealmq.QueueOptions{MaxLineBytes: sealmq.MaxLineBytes}, true},
		"too long a line":       {sealmq.QueueOptions{MaxLineBytes: sealmq.MaxLineBytes + 1}, false},
		"shortest line":         {sealmq.QueueOptions{MaxLineBytes: 1024}, true},
		"too short a line":      {sealmq.QueueOptions{MaxLineBytes: 1023}, false},
		"shortest ttl":          {sealmq.QueueOptions{TTL: time.Millisecond}, true},
		"too short a ttl":       {sealmq.QueueOptions{TTL: time.Millisecond - 1}, false},
		"negative ttl":          {sealmq.QueueOptions{TTL: -time.Second}, false},
		"too short a timeout":   {sealmq.QueueOptions{AckTimeout: 1}, false},
		"negative max_messages": {sealmq.QueueOptions{MaxMessages: -1}, false},
		"negative max_bytes":    {sealmq.QueueOptions{MaxBytes: -1}, false},
		"suites":                {sealmq.QueueOptions{Sealed: "a,b"}, true},
		"suites out of order":   {sealmq.QueueOptions{Sealed: "b,a"}, false},
		"a suite twice":         {sealmq.QueueOptions{Sealed: "a,a"}, false},
		"a suite without name":  {sealmq.QueueOptions{Sealed: "a,,b"}, false},
		"a suite with a space":  {sealmq.QueueOptions{Sealed: "a b"}, false},
		"too many suites":       {sealmq.QueueOptions{Sealed: "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.o.Validate()
			if tc.ok && err != nil {
				t.Fatalf("refused: %v", err)
			}
			if !tc.ok && sealmq.CodeOf(err) != sealmq.BadArgument {
				t.Fatalf("error %v, want code %s", err, sealmq.BadArgument)
			}
		})
	}
}

func TestDeadLetterQueueTakesWhatItsQueueTakes(t *testing.T) {
	o := sealmq.DeadLetterOptions(sealmq.QueueOptions{MaxLineBytes: 1 << 20})
	if o.MaxLineBytes != 1<<20 {
		t.Errorf("longest line %d, want that of the queue", o.MaxLineBytes)
	}
	if !o.DropOldest || o.MaxMessages == 0 || o.MaxBytes == 0 {
		t.Errorf("a dead-letter queue without bounds: %+v", o)
	}
}
