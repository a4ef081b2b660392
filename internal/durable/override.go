package durable

import "cmp"

// Override puts another file system under what a configuration opens, for the tests of this
// module. Configurations of public packages embed it under a name of their own that is not
// exported, so that it is no part of what they offer.
type Override struct{ FS FS }

// System is the file system to use: the operating system's, unless it was overridden.
func (o Override) System() FS { return cmp.Or(o.FS, OS()) }
