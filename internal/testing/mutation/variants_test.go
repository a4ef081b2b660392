package mutation

// The suites that must catch several variants.
var (
	powerCut   = suite{pkg: "journal", test: "TestPowerCut"}
	failedSync = suite{pkg: "journal", test: "TestFailedSyncStopsTheJournal"}
	restart    = suite{pkg: "journal", test: "TestWhatARestartFindsIsDurable"}
	heldSync   = suite{pkg: "engine/local", test: "TestConformance/sync/nothing is answered before its sync"}
	ledgerTold = suite{pkg: "receive", test: "TestLedgerRemembersOverARestart"}
)

var variants = []variant{
	// Confirmed means stored.
	{
		name: "a publish is confirmed before its sync",
		in:   "journal", fn: "Journal.store", old: "began := j.cfg.Clock.Now()",
		new:    "began := j.cfg.Clock.Now(); for _, f := range b.waiters { f(nil) }; b.waiters = nil",
		caught: powerCut, quick: true,
	},
	{
		name: "a repeat is confirmed before the first is synced",
		in:   "engine/local", fn: "Engine.Publish", old: "e.j.OnSync(",
		new:    "if len(p.seen) == 0 { e.mu.Unlock(); e.publishDone(p, nil, done); return }; e.j.OnSync(",
		caught: heldSync,
	},
	{
		name: "consumers get a message before its sync",
		in:   "engine/local", fn: "Engine.publishOne", old: "q.published++", new: "q.published++; q.visible = q.next",
		caught: suite{pkg: "engine/local", test: "TestWhatIsWrittenIsNotDelivered"},
	},
	{
		name: "the folder of a new segment is not synced",
		in:   "journal", fn: "createSegment", old: "fsys.SyncDir(dir)", new: "error(nil)",
		caught: powerCut,
	},
	{
		name: "a file is put in place before it is synced",
		in:   "internal/durable", fn: "writeTemp", old: "err = f.Sync()", new: "err = nil",
		caught: suite{pkg: "internal/durable", test: "TestWriteFileErrors"},
	},
	{
		name: "the folder of a replaced file is not synced",
		in:   "internal/durable", fn: "WriteFile", old: "fs.SyncDir(filepath.Dir(path))", new: "nil",
		caught: suite{pkg: "engine/local", test: "TestCrashes/at every change"},
	},
	{
		name: "what a start found above the last sync is delivered, but not written again",
		in:   "journal", fn: "Journal.rewriteUnsynced", old: "s.file.WriteAt(buf, from)", new: "len(buf), error(nil)",
		caught: restart,
	},
	{
		name: "what a start wrote again is not synced",
		in:   "journal", fn: "Journal.repair", old: "s.file.Sync()", new: "error(nil)",
		caught: restart,
	},
	{
		name: "records of a segment's earlier life are taken for new ones",
		in:   "journal", fn: "generationSum", old: "binary.LittleEndian.PutUint64(b[16:], generation)", new: "_ = generation",
		caught: suite{pkg: "journal", test: "TestHarmedJournal/a page of another segment", long: true},
	},

	// Acked means gone.
	{
		name: "an ack is confirmed before its sync",
		in:   "engine/local", fn: "session.settleSome", old: "if err == nil && len(out.dead) == 0 {",
		new:    "if err == nil && len(out.dead) == 0 { defer done(nil) }; if false {",
		caught: heldSync,
	},
	{
		name: "acks are not replayed",
		in:   "engine/local", fn: "recovery.apply", old: "e.forget(q, c.seq)", new: "_ = q",
		caught: suite{pkg: "engine/local", test: "TestConformance/durability/acked means gone after crash"},
	},
	{
		name: "a segment is released before its acks are synced",
		in:   "engine/local", fn: "Engine.release", old: "e.j.Sync()", new: "error(nil)",
		caught: suite{pkg: "engine/local", test: "TestSegmentsAreKeptUntilTheirAcksAreSynced"},
	},

	// Delivered until acked, and stored once.
	{
		name: "a checkpoint is ahead of the journal",
		in:   "engine/local", fn: "Engine.storeCheckpoint", old: "e.j.Sync()", new: "error(nil)",
		caught: suite{pkg: "engine/local", test: "TestCheckpointIsNotAheadOfTheJournal"},
	},
	{
		name: "a start forgets the ids of settled messages",
		in:   "engine/local", fn: "recovery.add", old: "e.state.dedup.add(n.id, n.scope, n.hash, 0, e.nowSeconds())", new: "",
		caught: suite{pkg: "engine/local", test: "TestIDsOutliveTheirSegments"}, quick: true,
	},
	{
		name: "a message that cannot be read now is given up",
		in:   "engine/local", fn: "Engine.quarantine", old: "isUnread(cause)", new: "isUnread(cause) && false",
		caught: suite{pkg: "engine/local", test: "TestUnreadableMessageIsKept"},
	},
	{
		name: "nobody is told of messages that only the checkpoint knows",
		in:   "engine/local", fn: "recovery.checkQueue", old: "missing > 0", new: "missing == -1",
		caught: suite{pkg: "engine/local", test: "TestLostTailWithoutIndex"},
	},

	// A failed sync is fatal.
	{
		name: "a failed sync is tried again and believed",
		in:   "journal", fn: "Journal.store", old: "err := r.seg.file.Sync(); err != nil",
		new:    "err := r.seg.file.Sync(); err != nil && r.seg.file.Sync() != nil",
		caught: failedSync,
	},
	{
		name: "a failed sync is not noticed",
		in:   "journal", fn: "Journal.store", old: "err := r.seg.file.Sync(); err != nil",
		new:    "err := error(nil); r.seg.file.Sync() != nil && err != nil",
		caught: failedSync,
	},

	// Only known parties.
	{
		name: "what is not allowed is done",
		in:   "broker", fn: "Broker.allowOf", old: "return err", new: "return nil",
		caught: suite{pkg: "broker", test: "TestEveryCommandAsks"},
	},
	{
		name: "anybody empties the pipeline's queue",
		in:   "broker", fn: "grants.ofPipeline", old: `g.pipeline != ""`, new: "false",
		caught: suite{pkg: "broker", test: "TestAuthorizationMatrix"},
	},
	{
		name: "a revoked certificate keeps a connection that was just opened",
		in:   "listener", fn: "conn.identify", old: "s.rechecks.Load() != rechecks", new: "rechecks != rechecks",
		caught: suite{pkg: "listener", test: "TestRecheckSeesConnectionsThatBegin"},
	},
	{
		name: "a revocation list of the same size is taken for the old one",
		in:   "trust", fn: "RevocationList.take", old: "bytes.Equal(data, s.content) && !s.parsed.unsigned", new: "len(data) == len(s.content) && !s.parsed.unsigned",
		caught: suite{pkg: "trust", test: "TestRevocationActsWithinASecond"},
	},
	{
		name: "an emptied file takes revocations back",
		in:   "trust", fn: "RevocationList.take", old: "len(s.parsed.entries) > 0", new: "len(s.parsed.entries) < 0",
		caught: suite{pkg: "trust", test: "TestRevocationActsWithinASecond"},
	},
	{
		name: "a restored folder takes revocations back",
		in:   "trust", fn: "Ledger.combine", old: "l.lines = l.copyLines", new: "l.lines = l.fileLines",
		caught: suite{pkg: "trust", test: "TestRestoreForgetsNothing"},
	},
	{
		name: "a name that is issued again brings back what had it before",
		in:   "ca", fn: "Authority.readmit", old: "IssuedBefore: from", new: "IssuedBefore: time.Unix(1, 0)",
		caught: suite{pkg: "ca", test: "TestRevokedNameIsIssuedAgain"},
	},
	{
		name: "the name in a request does not count",
		in:   "ca", fn: "Request.publicKey", old: "csr.CommonName != r.Name", new: "csr.CommonName == csr.CommonName+r.Name",
		caught: suite{pkg: "ca", test: "TestCSR"},
	},
	{
		name: "a connection outlives its certificate",
		in:   "listener", fn: "conn.identify", old: "c.endWhenExpired(state)", new: "_ = state",
		caught: suite{pkg: "listener", test: "TestConnectionEndsWithItsCertificate"},
	},

	// No other key in the receiver's place.
	{
		name: "a checkpoint covers what is not stored",
		in:   "keydir/keylog", fn: "Log.store", old: "l.cfg.Define(definitions, func(err error) { l.decide(b, err) })",
		new:    "l.decide(b, nil); l.cfg.Define(definitions, func(error) {})",
		caught: suite{pkg: "keydir/keylog", test: "TestCheckpointsCoverWhatIsStored"},
	},
	{
		name: "a log need not continue the one before",
		in:   "keydir", fn: "decision.observe", old: "d.oneHistory(last, observedCheckpoint{tree, checkpoint})", new: "error(nil)",
		caught: suite{pkg: "keydir", test: "TestForkedAndShortenedLogs"},
	},
	{
		name: "a key need not agree with the pins",
		in:   "keydir", fn: "decision.agrees", old: "refusal == nil", new: "refusal == nil || true",
		caught: suite{pkg: "keydir", test: "TestJudge"},
	},

	// The sender loses nothing.
	{
		name: "a message leaves before the spool is synced",
		in:   "send", fn: "Spool.Append", old: "file.Commit()", new: "file.Write()",
		caught: suite{pkg: "send", test: "TestSpoolSurvivesEveryFault"}, quick: true,
	},
	{
		name: "a refused message is taken out of the spool",
		in:   "send", fn: "Sender.answered", old: "err == nil && s.cfg.Spool != nil", new: "s.cfg.Spool != nil",
		caught: suite{pkg: "receive", test: "TestRefusedMessagesStayInTheSpool"},
	},
	{
		name: "damage to spool or ledger is not noticed",
		in:   "internal/framelog", fn: "frameAt", old: "frameSum(offset, frame) != binary.BigEndian.Uint32(frame[4:])", new: "len(frame) == 0",
		caught: suite{pkg: "send", test: "TestDamagedSpoolIsRefused"},
	},
	{
		name: "damage to the last commit passes for a torn end",
		in:   "internal/framelog", fn: "Log.Mark", old: "l.synced != l.size", new: "true",
		caught: suite{pkg: "send", test: "TestHarmedSpool"},
	},

	// The receiver neither loses nor repeats messages.
	{
		name: "a message is acknowledged before the ledger has it",
		in:   "receive", fn: "Receiver.Commit", old: "if err := r.cfg.Ledger.commit(",
		new:    "if err := r.sub.Ack(deliveries(list)...); err != nil { return err }; if err := r.cfg.Ledger.commit(",
		caught: suite{pkg: "receive", test: "TestNothingIsAcknowledgedBeforeTheLedger"},
	},
	{
		name: "a commit of the ledger is not synced",
		in:   "receive", fn: "Ledger.commit", old: "l.log.Commit()", new: "l.log.Write()",
		caught: suite{pkg: "receive", test: "TestLedgerSurvivesEveryFault"},
	},
	{
		name: "what was committed is shown again",
		in:   "receive", fn: "Ledger.judge", old: "at, ok := l.known[id]", new: "at, ok := l.known[id]; ok = false",
		caught: ledgerTold,
	},
	{
		name: "another text under a known id is taken for a repeat",
		in:   "receive", fn: "Ledger.judge", old: "case ok:", new: "case ok: return LedgerSeen, nil; case false:",
		caught: ledgerTold,
	},
	{
		name: "messages whose numbers are forgotten are taken for repeats",
		in:   "receive", fn: "seenEpoch.limitGaps", old: "e.forgotten = e.gaps[over-1].to", new: "",
		caught: suite{pkg: "receive", test: "TestReplayForgetsAndSaysSo"},
	},
	{
		name: "a wrong key empties a queue",
		in:   "receive", fn: "Receiver.refuse", old: "mayBeMine(reason) && !r.cfg.DeadLetter", new: "mayBeMine(reason) && r.hasOpened && !r.cfg.DeadLetter",
		caught: suite{pkg: "receive", test: "TestAWrongStartEmptiesNoQueue"},
	},
	{
		name: "a message that cannot be judged yet is dead-lettered",
		in:   "receive", fn: "isUndecided", old: "|| errors.Is(err, seal.ErrFuture)", new: "",
		caught: suite{pkg: "receive", test: "TestUndecidedMessagesNeverDie"},
	},
	{
		name: "a message whose sender's certificates nobody has is tried for ever",
		in:   "receive", fn: "Receiver.mayAskAgain", old: "times+1 >= chainTries", new: "false",
		caught: suite{pkg: "receive", test: "TestForgeriesDelayNobody"},
	},
	{
		name: "each message waits for the look-up of its sender's certificates alone",
		in:   "receive", fn: "Receiver.findChains", old: "r.openEach(n, len(r.pending), func(error) bool { return true })", new: "",
		caught: suite{pkg: "receive", test: "TestForgeriesDelayNobody"},
	},
	{
		name: "a client believes the broker who it is",
		in:   "client", fn: "Client.checkName", old: "who.ID == c.cfg.Name", new: "true",
		caught: suite{pkg: "client", test: "TestBrokerCallsAClientOtherwise"},
	},
	{
		name: "an entry is believed in another directory than its own",
		in:   "keydir", fn: "shown.trusted", old: "s.entry.Directory != keylog.ID(s.found.LogKey)", new: "false",
		caught: suite{pkg: "keydir", test: "TestEntryOfAnotherDirectory"},
	},
	{
		name: "an attested restore explains the loss of a longer log",
		in:   "keydir", fn: "judgeRestore", old: "!covers(r.Restore, seen.tree)", new: "false",
		caught: suite{pkg: "keydir", test: "TestRestoreIsAttestedAndAccepted"},
	},
	{
		name: "another authority's client replaces a bare key",
		in:   "keydir/keylog", fn: "slotState.mayRegister", old: "r.registrar == by.Issuer", new: "true",
		caught: suite{pkg: "keydir/keylog", test: "TestBareKeysBelongToAnAuthority"},
	},
	{
		name: "lines are committed before they are synced",
		in:   "cmd/sealmq/internal/receiver", fn: "Receiver.keep", old: "if err := r.cfg.File.Commit(); err != nil",
		new:    "defer r.cfg.File.Commit(); if err := error(nil); err != nil",
		caught: suite{pkg: "cmd/sealmq/internal/receiver", test: "TestCommitsWhatIsOnStableStorage"},
	},

	// What a client was told is queued reaches the main server, once.
	{
		name: "a submission is answered although the queue has not stored it",
		in:   "pipeline/proxy", fn: "Proxy.submit", old: "err = outcome(results[0])", new: "err = nil",
		caught: suite{pkg: "pipeline/proxy", test: "TestUnknownOutcome"},
	},
	{
		name: "a repeated submission is a message of its own",
		in:   "pipeline/proxy", fn: "Proxy.seal", old: "pipeline.MessageIDFor(*idKey, it.ClientID, m.key)", new: "pipeline.NewMessageID(now)",
		caught: suite{pkg: "pipeline/proxy", test: "TestRepeats"},
	},
	{
		name: "a worker drops what the main server did not answer",
		in:   "pipeline/worker", fn: "Worker.failed", old: "Verdict: pipeline.Release", new: "Verdict: pipeline.Done",
		caught: suite{pkg: "pipeline/worker", test: "TestOnePoisonousItem"},
	},

	// The pipeline's records are stored when the call returns, and show nothing.
	{
		name: "a message is answered though its transaction failed",
		in:   "pipeline/records", fn: "Store.commit", old: "c.err = s.d.coded(\"store messages\", err)", new: "_ = err",
		caught: suite{pkg: "pipeline/records", test: "TestFullDisk"},
	},
	{
		name: "a commit of the records is not synced",
		in:   "pipeline/records", fn: "openSQLite", old: "synchronous(full)", new: "synchronous(normal)",
		caught: suite{pkg: "pipeline/records", test: "TestCommitsAreSynced"},
	},
	{
		name: "a row that cannot be stored takes its group with it",
		in:   "pipeline/records", fn: "Store.commit", old: "err != nil && s.spoils(err)", new: "err != nil && len(entries) == 1 && s.spoils(err)",
		caught: suite{pkg: "pipeline/records", test: "TestSpoiledRow/sqlite"},
	},
	{
		name: "another text under the id of a stored message is taken for a repeat",
		in:   "pipeline/records", fn: "group.same", old: "return body == e.msg.Body, nil", new: "_ = body; return true, nil",
		caught: suite{pkg: "pipeline/records", test: "TestConflicts/sqlite"},
	},
	{
		name: "a late report takes a message back from its delivery",
		in:   "pipeline/records", fn: "allowed", old: "case pipeline.Queued, pipeline.Processing:", new: "case pipeline.Queued, pipeline.Processing, pipeline.Delivered:",
		caught: suite{pkg: "pipeline/records", test: "TestLifeCycle/sqlite"},
	},
	{
		name: "a name that MySQL takes for another is stored",
		in:   "pipeline/records", fn: "checkName", old: "strings.TrimSpace(name) != name", new: "false",
		caught: suite{pkg: "pipeline/records", test: "TestInvalidMessages/sqlite"},
	},
	{
		name: "a stored text can be moved to another row",
		in:   "pipeline/records/atrest", fn: "textKey", old: "+ messageID", new: "+ messageID[:0]",
		caught: suite{pkg: "pipeline/records/atrest", test: "TestTextsCannotBeMoved"},
	},
	{
		name: "errors of the database are shown with their values",
		in:   "pipeline/records", fn: "describeSQLite", old: "cmp.Or(sqlite.ErrorCodeString[e.Code()], sqlite.ErrorCodeString[e.Code()&0xFF])", new: "cmp.Or(err.Error())",
		caught: suite{pkg: "pipeline/records", test: "TestErrorsShowNoValues/sqlite"},
	},

	// Nothing that was accepted dies for a reason that an operator can repair.
	{
		name: "a row that cannot be read is taken for another message",
		in:   "pipeline/records", fn: "group.compare", old: "case unreadable(err):", new: "case false:",
		caught: suite{pkg: "pipeline/records", test: "TestUnreadableRows/sqlite"},
	},
	{
		name: "an item of an authority that is not trusted yet is given up",
		in:   "pipeline/mainserver", fn: "judge", old: "errors.Is(err, kind)", new: "errors.Is(err, kind) || errors.Is(err, seal.ErrUntrusted)",
		caught: suite{pkg: "pipeline/mainserver", test: "TestWhatAnOperatorCanRepair"},
	},
	{
		name: "a proxy seals on with a certificate that was replaced",
		in:   "pipeline/proxy", fn: "Proxy.checkOwn", old: "p.keys.rotate()", new: "",
		caught: suite{pkg: "pipeline/proxy", test: "TestRenewedCertificate"},
	},
	{
		name: "an item becomes a dead letter although its row does not say so",
		in:   "pipeline/worker", fn: "Worker.giveUp", old: "err != nil && d.says != \"\"", new: "false",
		caught: suite{pkg: "pipeline/worker", test: "TestRowsOfDeadLetters"},
	},

	// Whose certificate is revoked stops, wherever it runs.
	{
		name: "a list that is too old lets everybody in",
		in:   "trust", fn: "peersView.Check", old: "err := v.Stale(); err != nil", new: "err := v.Stale(); false",
		caught: suite{pkg: "trust", test: "TestPeersOfAStaleFeed"},
	},
	{
		name: "connections of an authority that was removed stay",
		in:   "trust", fn: "rootsFile.look", old: "before == nil || !maps.Equal(*before, keys)", new: "before == nil && maps.Equal(keys, keys)",
		caught: suite{pkg: "trust", test: "TestPeersOfARemovedRoot"},
	},
	{
		name: "the number of the followed list goes back",
		in:   "trust", fn: "RevocationList.apply", old: "len(missing) > 0", new: "false",
		caught: suite{pkg: "trust", test: "TestFeedOfARestoredAuthority"},
	},
	{
		name: "a role in the main server's process goes on without a good certificate",
		in:   "pipeline/mainserver", fn: "view.may", old: "v.good != nil", new: "false",
		caught: suite{pkg: "pipeline/mainserver", test: "TestCallerThatLostItsPermission"},
	},
	{
		name: "a node does not hear of its own revocation",
		in:   "pipeline/mainclient", fn: "Client.FollowRevocations", old: "errors.Is(err, mtls.ErrRevoked)", new: "false",
		caught: suite{pkg: "pipeline/mainclient", test: "TestFollowerHearsOfItsOwnRevocation"},
	},
	{
		name: "the address with the fewest connections makes room",
		in:   "internal/connlimit", fn: "Place.before", old: "p.peer.places > q.peer.places", new: "p.peer.places < q.peer.places",
		caught: suite{pkg: "internal/connlimit", test: "TestWhoMakesRoom"},
	},
	{
		name: "a key of another user is used",
		in:   "internal/durable", fn: "checkPrivate", old: "checkOwner(f, info)", new: "nil",
		caught: suite{pkg: "internal/durable", test: "TestStrangeSecrets"},
	},
	{
		name: "an HTTPS connection with public requests outlives its certificate",
		in:   "internal/httpkit", fn: "connection.changed", old: "c.register()", new: "_ = c",
		caught: suite{pkg: "internal/httpkit", test: "TestConnectionEndsWithItsCertificate"},
	},
}
