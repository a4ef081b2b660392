package engine

import "github.com/sealmq/sealmq"

// QueueInfo describes a queue at one moment.
type QueueInfo struct {
	Name      string              `json:"name"`
	Options   sealmq.QueueOptions `json:"options"`
	Ready     int                 `json:"ready"`     // waiting, delayed ones included
	Unacked   int                 `json:"unacked"`   // in consumers' hands
	Bytes     int64               `json:"bytes"`     // of bodies, ready and unacked
	Consumers int                 `json:"consumers"` // subscriptions
	// Totals since the engine was opened.
	Published    uint64 `json:"published"`
	Delivered    uint64 `json:"delivered"`
	Acked        uint64 `json:"acked"`
	Returned     uint64 `json:"returned"`
	Expired      uint64 `json:"expired"`       // removed by the queue's TTL
	Dropped      uint64 `json:"dropped"`       // removed by drop_oldest
	DeadLettered uint64 `json:"dead_lettered"` // moved to the dead-letter queue
	Refused      uint64 `json:"refused"`       // publishes refused at a limit
}
