package redisqueue

import "github.com/redis/go-redis/v9"

// Everything that touches more than one key is a script: Redis runs it as a whole, and
// writes what it changed to its append-only file as a whole.
//
// Redis refuses a script that would enlarge its memory once maxmemory is reached, but only
// before the script's first write. So enqueueScript begins with a write that is refused, and
// all others, which make room or make it possible, begin with one that is not.

// enqueueScript stores items that are not there yet.
// KEYS: the ready list, then the dedup key of each item.
// ARGV: of each item its digest, how long it is remembered in ms, and its bytes.
// It returns of each item 1 (stored), 2 (duplicate) or 3 (conflict).
var enqueueScript = redis.NewScript(`
redis.call('LLEN', KEYS[1]) -- fails before anything is written if the key is no list
local out = {}
for i = 2, #KEYS do
	local n = (i - 2) * 3
	if redis.call('SET', KEYS[i], ARGV[n + 1], 'PX', ARGV[n + 2], 'NX') then
		redis.call('LPUSH', KEYS[1], ARGV[n + 3])
		out[#out + 1] = 1
	elseif redis.call('GET', KEYS[i]) == ARGV[n + 1] then
		out[#out + 1] = 2
	else
		out[#out + 1] = 3
	end
end
return out`)

// takeScript puts items back whose next attempt is due, and moves the next ones to a worker.
// KEYS: the ready list, the worker's list, the retry set.
// ARGV: how many items at most, and after how many bytes it stops.
var takeScript = redis.NewScript(`
local t = redis.call('TIME')
local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', t[1] * 1000 + math.floor(t[2] / 1000), 'LIMIT', 0, 500)
for _, item in ipairs(due) do
	redis.call('ZREM', KEYS[3], item)
	redis.call('LPUSH', KEYS[1], item)
end
local out, bytes = {}, 0
while #out < tonumber(ARGV[1]) and bytes < tonumber(ARGV[2]) do
	local item = redis.call('RPOP', KEYS[1])
	if not item then break end
	redis.call('LPUSH', KEYS[2], item)
	out[#out + 1] = item
	bytes = bytes + #item
end
return out`)

// finishScript says what became of items that a worker holds. What the worker does not hold any
// more is left alone: somebody else has it.
// KEYS: the worker's list, the ready list, the retry set, the dead list.
// ARGV: of each item its bytes, a verdict (done, retry, release, dead), its new bytes, and how
// many ms it waits.
var finishScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for i = 1, #ARGV, 4 do
	if redis.call('LREM', KEYS[1], -1, ARGV[i]) == 1 then
		local verdict = ARGV[i + 1]
		if verdict == 'retry' then
			redis.call('ZADD', KEYS[3], now + tonumber(ARGV[i + 3]), ARGV[i + 2])
		elseif verdict == 'release' then
			redis.call('RPUSH', KEYS[2], ARGV[i + 2])
		elseif verdict == 'dead' then
			redis.call('LPUSH', KEYS[4], ARGV[i + 2])
		end
	end
end
return redis.status_reply('OK')`)

// giveBack is a part of scripts: it moves up to a number of items of a worker back to where they
// came from, so that the oldest is the next one.
const giveBack = `
local function giveBack(list, ready, most)
	for _ = 1, most do
		local item = redis.call('LPOP', list)
		if not item then return end
		redis.call('RPUSH', ready, item)
	end
end
`

// beatScript says that a consumer lives, unless its run is empty, and puts back what belongs to consumers that do not: to
// those without heartbeat and, if told so, to earlier ones of the same worker. A consumer without
// items is forgotten when no command of it can still be running.
// KEYS: the ready list, the set of consumers.
// ARGV: the prefixes of heartbeats and of lists, the worker, its run, for how many ms the heartbeat is good,
// after how many ms a silent consumer is forgotten, and "first" if earlier runs of the worker are dead.
var beatScript = redis.NewScript(giveBack + `
local beats, lists, worker, run = ARGV[1], ARGV[2], ARGV[3] .. ':', ARGV[4]
local me = worker .. run
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if run ~= '' then
	redis.call('DEL', beats .. me)
	redis.call('SET', beats .. me, '1', 'PX', ARGV[5])
	redis.call('ZADD', KEYS[2], now, me)
end
for _, other in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
	local earlier = ARGV[7] == 'first' and other ~= me and #other == #me and other:sub(1, #worker) == worker
	if earlier or redis.call('EXISTS', beats .. other) == 0 then
		giveBack(lists .. other, KEYS[1], 1000)
		if redis.call('LLEN', lists .. other) == 0 and now - redis.call('ZSCORE', KEYS[2], other) > tonumber(ARGV[6]) then
			redis.call('ZREM', KEYS[2], other)
		end
	end
end
return redis.status_reply('OK')`)

// leaveScript puts back what a consumer holds. KEYS: the ready list, the set of consumers, its
// list, its heartbeat. ARGV: its name, and "forget" if no command of it can be under way.
var leaveScript = redis.NewScript(giveBack + `
giveBack(KEYS[3], KEYS[1], 1000000)
redis.call('DEL', KEYS[4])
if ARGV[2] == 'forget' then redis.call('ZREM', KEYS[2], ARGV[1]) end
return redis.status_reply('OK')`)

// countScript counts. KEYS: the ready list, the retry set, the dead list, the set of consumers.
// ARGV: the prefix of lists. It returns ready, processing, retry, dead, and the oldest item.
var countScript = redis.NewScript(`
local held = 0
for _, name in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
	held = held + redis.call('LLEN', ARGV[1] .. name)
end
return {redis.call('LLEN', KEYS[1]), held, redis.call('ZCARD', KEYS[2]), redis.call('LLEN', KEYS[3]), redis.call('LINDEX', KEYS[1], -1) or ''}`)

// requeueScript puts dead items back to the end of the queue. KEYS: the dead list, the ready list.
// ARGV: of each item its entry in the dead list, and its bytes. It returns how many there were.
var requeueScript = redis.NewScript(`
local n = 0
for i = 1, #ARGV, 2 do
	if redis.call('LREM', KEYS[1], -1, ARGV[i]) == 1 then
		redis.call('LPUSH', KEYS[2], ARGV[i + 1])
		n = n + 1
	end
end
return n`)
