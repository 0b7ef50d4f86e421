# SPDX-License-Identifier: BSD-2-Clause
"""Examples for every command that takes keys, and what is needed to walk through all of them.

    @name   a key, or a pattern of keys (SORT BY, GET): where and how it is written is the test's to say
    ;       between commands that belong together, |  between examples
    ~       before an example: only the shape of its replies is compared (they carry sizes or times)
    ?       before an example: the order of its replies is arbitrary
    sha:X   the SHA1 of X;  dump:X  what DUMP says of the key X

Each example begins with the keys of PREPARE and nothing else. A command that takes keys and has no line here fails
test_namespace_walk.py.
"""
import hashlib
import os
import re

from .resp import RespError, parse
from .servers import TOP

PREPARE = """
SET @str hello | SET @num 10 | SET @float 1.5 | SET @bits foobar | SET @vol v EX 100 | RPUSH @list a b c 1 2
RPUSH @list2 x y | RPUSH @nums 3 1 2 | SADD @set a b 1 | SADD @set2 b c | SADD @one m | HSET @hash a 1 b x | HSET @h1 f 5
ZADD @zset 1 a 2.5 b 3 c | ZADD @zset2 5 b 6 d | ZADD @z1 1 m | ZADD @lex 0 a 0 b 0 c | PFADD @hll a b | PFADD @hll2 c
GEOADD @geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania | RPUSH @vlist a b | EXPIRE @vlist 200
XADD @stream 1-1 f v | XADD @stream 2-1 f w | XGROUP CREATE @stream g 0 | XADD @stream2 5-1 a b
SET @w_1 30 | SET @w_2 20 | SET @w_3 10 | SET @d_1 one | SET @d_2 two | HSET @o_1 f uno | HSET @o_3 f tre
"""

FUNCTIONS = """#!lua name=examples
redis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
redis.register_function{function_name='look', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}}
"""

EXAMPLES = """
append: APPEND @str x | APPEND @new x | APPEND @vol x | APPEND @list x
bitcount: BITCOUNT @str | BITCOUNT @str 0 1 | BITCOUNT @none
bitfield: BITFIELD @bits GET u8 0 | BITFIELD @new SET u8 0 200 | BITFIELD @vol INCRBY i5 1 1 | BITFIELD @new GET u8 0 | BITFIELD @new SET u8 0
bitfield_ro: BITFIELD_RO @bits GET u8 0
bitop: BITOP AND @new @str @bits | BITOP NOT @str @bits | BITOP OR @new @none @none2 | BITOP XOR @vol @str @bits | BITOP OR @str @none | BITOP X @new @str
bitpos: BITPOS @bits 1
blmove: BLMOVE @list @list2 LEFT RIGHT 1 | BLMOVE @list @new LEFT LEFT 1 | BLMOVE @none @new LEFT LEFT 0.01 | BLMOVE @list @list RIGHT LEFT 1 | BLMOVE @list @str LEFT LEFT 1
blmpop: BLMPOP 1 1 @list LEFT | BLMPOP 1 2 @none @list RIGHT COUNT 2 | BLMPOP 0.01 1 @none LEFT | BLMPOP 1 1 @list LEFT COUNT 9
blpop: BLPOP @list 1 | BLPOP @none @list @list2 1 | BLPOP @none 0.01 | BLPOP @list x | BLPOP @str 1
brpop: BRPOP @list 1 | BRPOP @none @list 1 | BRPOP @none 0.01
brpoplpush: BRPOPLPUSH @list @list2 1 | BRPOPLPUSH @list @new 1 | BRPOPLPUSH @none @new 0.01 | BRPOPLPUSH @list @list 1
bzmpop: BZMPOP 1 1 @zset MIN | BZMPOP 1 2 @none @zset MAX COUNT 2 | BZMPOP 0.01 1 @none MIN
bzpopmax: BZPOPMAX @zset 1 | BZPOPMAX @none @zset 1 | BZPOPMAX @none 0.01
bzpopmin: BZPOPMIN @zset 1 | BZPOPMIN @none @zset2 @zset 1 | BZPOPMIN @none 0.01
copy: COPY @str @new | COPY @str @num | COPY @str @num REPLACE | COPY @vol @new | COPY @vol @str REPLACE | COPY @str @vol REPLACE | COPY @none @new | COPY @list @new | COPY @str @str
decr: DECR @num | DECR @new | DECR @str | DECR @new ; DECR @new
decrby: DECRBY @num 3 | DECRBY @new 3 | DECRBY @num x
del: DEL @str | DEL @str @list @none | DEL @none
dump: DUMP @str | DUMP @list | DUMP @none
eval: EVAL return(redis.call('set',KEYS[1],ARGV[1])) 1 @new v | EVAL return(redis.call('get',KEYS[1])) 1 @str | EVAL return{redis.call('incr',KEYS[1]),redis.call('rpush',KEYS[2],'x')} 2 @new @new2 | EVAL return(1) 0 | EVAL return(redis.call('set',KEYS[1],'v','EX',500)) 1 @new | EVAL return(redis.call('get',KEYS[1])) 1 @list | EVAL return(1) 2 a
eval_ro: EVAL_RO return(redis.call('get',KEYS[1])) 1 @str | EVAL_RO return(redis.call('set',KEYS[1],1)) 1 @str
evalsha: SCRIPT LOAD return(redis.call('set',KEYS[1],ARGV[1])) ; EVALSHA sha:return(redis.call('set',KEYS[1],ARGV[1])) 1 @new v | EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 @str
evalsha_ro: SCRIPT LOAD return(redis.call('get',KEYS[1])) ; EVALSHA_RO sha:return(redis.call('get',KEYS[1])) 1 @str
exists: EXISTS @str | EXISTS @str @str @none @list
expire: EXPIRE @str 500 | EXPIRE @none 500 | EXPIRE @str -1 | EXPIRE @vol 500 | EXPIRE @str 500 NX | EXPIRE @str 500 XX | EXPIRE @vol 500 GT | EXPIRE @vol 50 LT | EXPIRE @vol 500 LT | EXPIRE @str x | EXPIRE @list 300
expireat: EXPIREAT @str 1 | EXPIREAT @none 99999999999 | EXPIREAT @str x | EXPIREAT @list 0
expiretime: EXPIRETIME @vol | EXPIRETIME @none
fcall: FCALL put 1 @new v | FCALL put 1 @list v | FCALL nosuch 1 @str
fcall_ro: FCALL_RO look 1 @str | FCALL_RO put 1 @str v
geoadd: GEOADD @new 13.361389 38.115556 Palermo | GEOADD @geo 13.5 38 x | GEOADD @geo XX CH 13.5 38 Palermo | GEOADD @geo 500 500 x | GEOADD @str 1 1 x
geodist: GEODIST @geo Palermo Catania km | GEODIST @none a b
geohash: GEOHASH @geo Palermo nobody
geopos: GEOPOS @geo Palermo nobody
georadius: GEORADIUS @geo 15 37 200 km ASC | GEORADIUS @geo 15 37 200 km STORE @new | GEORADIUS @geo 15 37 200 km STOREDIST @new | GEORADIUS @geo 15 37 200 km STORE @str | GEORADIUS @geo 1 1 1 m STORE @str | GEORADIUS @none 15 37 200 km
georadius_ro: GEORADIUS_RO @geo 15 37 200 km ASC WITHDIST
georadiusbymember: GEORADIUSBYMEMBER @geo Palermo 200 km ASC | GEORADIUSBYMEMBER @geo Palermo 200 km STORE @new | GEORADIUSBYMEMBER @geo Palermo 200 km STOREDIST @vol
georadiusbymember_ro: GEORADIUSBYMEMBER_RO @geo Palermo 200 km ASC
geosearch: GEOSEARCH @geo FROMMEMBER Palermo BYRADIUS 200 km ASC
geosearchstore: GEOSEARCHSTORE @new @geo FROMMEMBER Palermo BYRADIUS 200 km | GEOSEARCHSTORE @vol @geo FROMLONLAT 15 37 BYBOX 400 400 km STOREDIST | GEOSEARCHSTORE @str @none FROMLONLAT 15 37 BYRADIUS 1 m
get: GET @str | GET @none | GET @list
getbit: GETBIT @bits 1 | GETBIT @none 1
getdel: GETDEL @str | GETDEL @none | GETDEL @list
getex: GETEX @str | GETEX @str EX 500 | GETEX @str PX 500000 | GETEX @str EXAT 1 | GETEX @vol PERSIST | GETEX @str PERSIST | GETEX @vol | GETEX @none EX 5 | GETEX @str EX 0 | GETEX @list
getrange: GETRANGE @str 1 3
getset: GETSET @str v | GETSET @new v | GETSET @vol v | GETSET @list v
hdel: HDEL @hash a | HDEL @hash a b | HDEL @none a
hexists: HEXISTS @hash a
hget: HGET @hash a | HGET @hash none | HGET @none a | HGET @str a
hgetall: HGETALL @hash | HGETALL @none
hincrby: HINCRBY @hash a 2 | HINCRBY @new a 2 | HINCRBY @hash b 2
hincrbyfloat: HINCRBYFLOAT @hash a 2.5 | HINCRBYFLOAT @new a 2.5
hkeys: HKEYS @hash
hlen: HLEN @hash | HLEN @none
hmget: HMGET @hash a none b | HMGET @none a
hmset: HMSET @hash a 5 c 6 | HMSET @new a 5 | HMSET @new a
hrandfield: HRANDFIELD @h1 | HRANDFIELD @h1 3 WITHVALUES | HRANDFIELD @none 2 | HRANDFIELD @h1 -3 WITHVALUES
hscan: HSCAN @hash 0 | HSCAN @hash 0 MATCH a* COUNT 100 | HSCAN @none 0
hset: HSET @hash a 7 c 8 | HSET @new a 1 b 2 | HSET @str a 1 | HSET @new a
hsetnx: HSETNX @hash a 9 | HSETNX @hash c 9 | HSETNX @new c 9
hstrlen: HSTRLEN @hash b | HSTRLEN @hash none
hvals: HVALS @hash
incr: INCR @num | INCR @new | INCR @str | INCR @new ; INCR @new
incrby: INCRBY @num 5 | INCRBY @new 5 | INCRBY @vol 5
incrbyfloat: INCRBYFLOAT @float 0.5 | INCRBYFLOAT @new 0.5 | INCRBYFLOAT @str 1
lcs: LCS @str @bits | LCS @str @bits LEN
lindex: LINDEX @list 0 | LINDEX @list 99
linsert: LINSERT @list BEFORE b x | LINSERT @list AFTER nosuch x | LINSERT @none BEFORE a b
llen: LLEN @list | LLEN @none | LLEN @str
lmove: LMOVE @list @list2 LEFT RIGHT | LMOVE @list @new LEFT LEFT | LMOVE @list @list LEFT RIGHT | LMOVE @none @new LEFT LEFT | LMOVE @vlist @new RIGHT LEFT
lmpop: LMPOP 1 @list LEFT | LMPOP 2 @none @list RIGHT COUNT 2 | LMPOP 1 @none LEFT | LMPOP 1 @list LEFT COUNT 9
lpop: LPOP @list | LPOP @list 2 | LPOP @list 99 | LPOP @none | LPOP @none 1
lpos: LPOS @list b | LPOS @list 1 COUNT 0
lpush: LPUSH @list x y | LPUSH @new x | LPUSH @str x | LPUSH @vlist x
lpushx: LPUSHX @list x y | LPUSHX @none x
lrange: LRANGE @list 0 -1 | LRANGE @list 1 2 | LRANGE @none 0 -1
lrem: LREM @list 1 a | LREM @list 0 nosuch | LREM @none 1 a
lset: LSET @list 0 x | LSET @list 99 x | LSET @none 0 x
ltrim: LTRIM @list 1 2 | LTRIM @list 9 1 | LTRIM @none 0 1
memory|usage: ~MEMORY USAGE @str | MEMORY USAGE @none
mget: MGET @str @none @num @list | MGET @str @str
move: MOVE @str 1 | MOVE @none 1 | MOVE @str 0 | MOVE @str 99
mset: MSET @new 1 @str 2 @vol 3 | MSET @new 1 | MSET @new 1 @new 2 | MSET @list x | MSET @new
msetnx: MSETNX @new 1 @new2 2 | MSETNX @new 1 @str 2 | MSETNX @new 1 @new 2
object|encoding: OBJECT ENCODING @num | OBJECT ENCODING @none
object|freq: OBJECT FREQ @str
object|idletime: ~OBJECT IDLETIME @str
object|refcount: OBJECT REFCOUNT @list
persist: PERSIST @vol | PERSIST @vlist | PERSIST @none | SET @new v EX 50 ; PERSIST @new
pexpire: PEXPIRE @str 500000 | PEXPIRE @none 1 | PEXPIRE @str -1 | PEXPIRE @list 500000
pexpireat: PEXPIREAT @str 1 | PEXPIREAT @none 99999999999999
pexpiretime: PEXPIRETIME @vol | PEXPIRETIME @none
pfadd: PFADD @hll x | PFADD @hll a | PFADD @new | PFADD @new x y | PFADD @str x
pfcount: PFCOUNT @hll | PFCOUNT @hll @hll2 @none
pfdebug: PFDEBUG ENCODING @hll
pfmerge: PFMERGE @hll @hll2 | PFMERGE @new @hll @hll2 | PFMERGE @new | PFMERGE @new @none
psetex: PSETEX @new 500000 v | PSETEX @str 500000 v | PSETEX @new 0 v
pttl: PTTL @vol | PTTL @none
rename: RENAME @str @new | RENAME @str @list | RENAME @vol @num | RENAME @num @vol | RENAME @none @new | RENAME @str @str
renamenx: RENAMENX @str @new | RENAMENX @str @list | RENAMENX @vol @new | RENAMENX @none @new
restore: RESTORE @new 0 dump:str | RESTORE @new 500000 dump:list | RESTORE @list 0 dump:str | RESTORE @vol 0 dump:str REPLACE | RESTORE @new 0 junk | RESTORE @new 99999999999999 dump:str ABSTTL | RESTORE @new 1 dump:str ABSTTL
restore-asking: RESTORE-ASKING @new 0 dump:str
rpop: RPOP @list | RPOP @list 2 | RPOP @none
rpoplpush: RPOPLPUSH @list @list2 | RPOPLPUSH @list @new | RPOPLPUSH @list @list | RPOPLPUSH @none @new
rpush: RPUSH @list x y | RPUSH @new x | RPUSH @str x
rpushx: RPUSHX @list x | RPUSHX @none x
sadd: SADD @set x a | SADD @new x | SADD @str x | SADD @set a
scard: SCARD @set
sdiff: ?SDIFF @set @set2
sdiffstore: SDIFFSTORE @new @set @set2 | SDIFFSTORE @vol @set @none | SDIFFSTORE @str @none @set | SDIFFSTORE @set @set @set2
set: SET @new v | SET @str v | SET @vol v | SET @str v EX 500 | SET @str v PX 500000 | SET @str v NX | SET @new v NX | SET @new v XX | SET @str v XX | SET @vol v KEEPTTL | SET @new v KEEPTTL | SET @str v GET | SET @new v GET | SET @vol v XX GET | SET @list v | SET @list v GET | SET @str v EXAT 1 | SET @str v EX 0 | SET @str v EX x | SET @str v FOO | SET @str v KEEPTTL EX 5 | SET @str v NX EX 500 | SET @new v NX PX 500000 | SET @new v EXAT x | SET @str v NX GET | SET @new v KEEPTTL GET
setbit: SETBIT @bits 1 0 | SETBIT @new 7 1 | SETBIT @str x 1
setex: SETEX @new 500 v | SETEX @str 500 v | SETEX @new 0 v | SETEX @new x v
setnx: SETNX @new v | SETNX @str v | SETNX @list v | SETNX @vol v | SETNX @new a ; SETNX @new b
setrange: SETRANGE @str 1 xx | SETRANGE @new 3 x | SETRANGE @new 3 | SETRANGE @vol 0 x
sinter: ?SINTER @set @set2 | SINTER @set @none
sintercard: SINTERCARD 2 @set @set2 | SINTERCARD 2 @set @set2 LIMIT 1
sinterstore: SINTERSTORE @new @set @set2 | SINTERSTORE @vol @set @set2 | SINTERSTORE @str @set @none
sismember: SISMEMBER @set a
smembers: ?SMEMBERS @set | SMEMBERS @none
smismember: SMISMEMBER @set a z
smove: SMOVE @set @set2 a | SMOVE @set @new a | SMOVE @set @new z | SMOVE @one @new m | SMOVE @none @new m
sort: SORT @nums | SORT @nums DESC LIMIT 0 2 | SORT @nums BY @w_* | SORT @nums BY @w_* GET # GET @d_* GET @o_*->f | SORT @nums STORE @new | SORT @nums BY @w_* GET @d_* STORE @vol | SORT @none STORE @str | SORT @nums BY nosort GET # | SORT @str | SORT @nums BY nosort STORE @nums
sort_ro: SORT_RO @nums BY @w_* GET @d_* | SORT_RO @nums
spop: SPOP @one | SPOP @one 3 | SPOP @none | SPOP @none 2
srandmember: SRANDMEMBER @one | SRANDMEMBER @one -2 | SRANDMEMBER @none
srem: SREM @set a | SREM @set a b 1 | SREM @none a
sscan: ?SSCAN @set 0 | SSCAN @none 0 | ?SSCAN @set 0 MATCH a*
strlen: STRLEN @str | STRLEN @none | STRLEN @list
substr: SUBSTR @str 0 1
sunion: ?SUNION @set @set2
sunionstore: SUNIONSTORE @new @set @set2 | SUNIONSTORE @vol @set | SUNIONSTORE @str @none @none2
touch: TOUCH @str | TOUCH @str @none @list
ttl: TTL @vol | TTL @none
type: TYPE @str | TYPE @stream | TYPE @none
unlink: UNLINK @str @none | UNLINK @list
watch: WATCH @str ; MULTI ; GET @str ; EXEC | WATCH @str @none ; SET @str x ; MULTI ; GET @str ; EXEC | WATCH @str ; UNWATCH
xack: XREADGROUP GROUP g c COUNT 1 STREAMS @stream > ; XACK @stream g 1-1 | XACK @stream g 9-9 | XACK @none g 1-1
xackdel: XACKDEL @stream g IDS 1 1-1
xadd: XADD @stream 3-1 a b | XADD @new 1-1 a b | XADD @stream MAXLEN = 2 4-1 a b | XADD @stream 1-0 a b | XADD @none NOMKSTREAM 1-1 a b | ~XADD @new * a b | XADD @new 1-1 a | XADD @str 1-1 a b
xautoclaim: XREADGROUP GROUP g c COUNT 1 STREAMS @stream > ; XAUTOCLAIM @stream g d 0 0 | XAUTOCLAIM @stream nog d 0 0 | XAUTOCLAIM @none g d 0 0 | XREADGROUP GROUP g c STREAMS @stream > ; XAUTOCLAIM @stream g d 0 0 JUSTID
xclaim: XREADGROUP GROUP g c COUNT 1 STREAMS @stream > ; XCLAIM @stream g d 0 1-1 | XCLAIM @stream nog c 0 1-1 | XCLAIM @none g c 0 1-1
xdel: XDEL @stream 1-1 | XDEL @stream 9-9 | XDEL @none 1-1
xdelex: XDELEX @stream IDS 1 1-1
xgroup|create: XGROUP CREATE @stream h $ | XGROUP CREATE @new h 0 MKSTREAM | XGROUP CREATE @none h 0 | XGROUP CREATE @stream g 0
xgroup|createconsumer: XGROUP CREATECONSUMER @stream g c | XGROUP CREATECONSUMER @stream nog c | XGROUP CREATECONSUMER @none g c
xgroup|delconsumer: XGROUP CREATECONSUMER @stream g c ; XGROUP DELCONSUMER @stream g c | XGROUP DELCONSUMER @stream nog c
xgroup|destroy: XGROUP DESTROY @stream g | XGROUP DESTROY @stream nog
xgroup|setid: XGROUP SETID @stream g 1-1 | XGROUP SETID @stream nog 1-1
xinfo|consumers: XGROUP CREATECONSUMER @stream g c ; ~XINFO CONSUMERS @stream g | XINFO CONSUMERS @stream nog | XINFO CONSUMERS @none g
xinfo|groups: XINFO GROUPS @stream | XINFO GROUPS @none
xinfo|stream: XINFO STREAM @stream | XINFO STREAM @none | XINFO STREAM @stream FULL
xlen: XLEN @stream
xpending: XPENDING @stream g | XREADGROUP GROUP g c STREAMS @stream > ; XPENDING @stream g ; ~XPENDING @stream g - + 10 | XPENDING @stream nog | XPENDING @none g
xrange: XRANGE @stream - + | XRANGE @stream - + COUNT 1 | XRANGE @none - +
xread: XREAD COUNT 1 STREAMS @stream 0 | XREAD STREAMS @stream @stream2 0 0 | XREAD BLOCK 10 STREAMS @none $ | XREAD STREAMS @none 0 | XREAD STREAMS @str 0 | XREAD STREAMS @stream
xreadgroup: XREADGROUP GROUP g c COUNT 1 STREAMS @stream > | XREADGROUP GROUP g c STREAMS @stream 0 | XREADGROUP GROUP nog c STREAMS @stream > | XREADGROUP GROUP g c STREAMS @none > | XREADGROUP GROUP g c STREAMS @stream > ; XREADGROUP GROUP g c STREAMS @stream 0
xrevrange: XREVRANGE @stream + -
xsetid: XSETID @stream 9-9 | XSETID @none 1-1
xtrim: XTRIM @stream MAXLEN 1 | XTRIM @none MAXLEN 1
zadd: ZADD @zset 5 x | ZADD @new 1 x | ZADD @zset XX CH 9 a | ZADD @new NX INCR 2 x | ZADD @str 1 x | ZADD @zset NX 9 a | ZADD @new XX 1 a | ZADD @new x a
zcard: ZCARD @zset
zcount: ZCOUNT @zset -inf +inf
zdiff: ZDIFF 2 @zset @zset2 WITHSCORES
zdiffstore: ZDIFFSTORE @new 2 @zset @zset2 | ZDIFFSTORE @vol 2 @zset @zset2 | ZDIFFSTORE @str 2 @none @zset
zincrby: ZINCRBY @zset 2 a | ZINCRBY @new 2 a | ZINCRBY @zset x a
zinter: ZINTER 2 @zset @zset2 WITHSCORES
zintercard: ZINTERCARD 2 @zset @zset2
zinterstore: ZINTERSTORE @new 2 @zset @zset2 WEIGHTS 2 3 | ZINTERSTORE @vol 2 @zset @zset2 AGGREGATE MAX | ZINTERSTORE @str 2 @zset @none
zlexcount: ZLEXCOUNT @lex - +
zmpop: ZMPOP 1 @zset MIN | ZMPOP 2 @none @zset MAX COUNT 2 | ZMPOP 1 @none MIN | ZMPOP 1 @zset MIN COUNT 9
zmscore: ZMSCORE @zset a z
zpopmax: ZPOPMAX @zset | ZPOPMAX @zset 9 | ZPOPMAX @none
zpopmin: ZPOPMIN @zset | ZPOPMIN @zset 2 | ZPOPMIN @none
zrandmember: ZRANDMEMBER @z1 | ZRANDMEMBER @z1 2 WITHSCORES | ZRANDMEMBER @none
zrange: ZRANGE @zset 0 -1 WITHSCORES | ZRANGE @zset (1 3 BYSCORE LIMIT 0 1 | ZRANGE @none 0 -1
zrangebylex: ZRANGEBYLEX @lex [a (c
zrangebyscore: ZRANGEBYSCORE @zset 1 2.5 WITHSCORES
zrangestore: ZRANGESTORE @new @zset 0 1 | ZRANGESTORE @vol @zset 0 -1 | ZRANGESTORE @str @none 0 -1
zrank: ZRANK @zset b | ZRANK @zset z
zrem: ZREM @zset a | ZREM @zset a b c | ZREM @none a
zremrangebylex: ZREMRANGEBYLEX @lex [a (c | ZREMRANGEBYLEX @lex - +
zremrangebyrank: ZREMRANGEBYRANK @zset 0 0 | ZREMRANGEBYRANK @zset 0 -1
zremrangebyscore: ZREMRANGEBYSCORE @zset 1 1 | ZREMRANGEBYSCORE @zset -inf +inf
zrevrange: ZREVRANGE @zset 0 -1
zrevrangebylex: ZREVRANGEBYLEX @lex + -
zrevrangebyscore: ZREVRANGEBYSCORE @zset 3 1
zrevrank: ZREVRANK @zset b
zscan: ZSCAN @zset 0 | ZSCAN @zset 0 MATCH a*
zscore: ZSCORE @zset a | ZSCORE @zset z
zunion: ZUNION 2 @zset @zset2 WITHSCORES
zunionstore: ZUNIONSTORE @new 2 @zset @zset2 | ZUNIONSTORE @vol 1 @zset WEIGHTS 2 | ZUNIONSTORE @str 2 @none @none2
hexpire: HEXPIRE @hash 500 FIELDS 1 a
hpexpire: HPEXPIRE @hash 500000 FIELDS 1 a
hexpireat: HEXPIREAT @hash 99999999999 FIELDS 1 a
hpexpireat: HPEXPIREAT @hash 99999999999999 FIELDS 1 a
hpersist: HPERSIST @hash FIELDS 1 a
httl: HTTL @hash FIELDS 1 a
hpttl: HPTTL @hash FIELDS 1 a
hexpiretime: HEXPIRETIME @hash FIELDS 1 a
hpexpiretime: HPEXPIRETIME @hash FIELDS 1 a
hgetdel: HGETDEL @hash FIELDS 1 a
hgetex: HGETEX @hash EX 500 FIELDS 1 a
hsetex: HSETEX @hash EX 500 FIELDS 1 a 5 | HSETEX @new FIELDS 1 a 5
"""

# Commands with keys that no example can have, each with the reason.
WITHOUT_EXAMPLE = {"migrate": "refused in namespaces: a test of its own",
                   "cl.throttle": "no Redis has it: test_throttle.py",
                   **dict.fromkeys(("token.check", "token.restore", "token.revoke"), "its arguments are tokens, not keys")}

TIMES = {"ttl", "pttl", "expiretime", "pexpiretime"}
# The keys are in the reply, where no script's reply can be looked into.
KEYS_IN_REPLY = {"blmpop", "lmpop", "bzmpop", "zmpop", "blpop", "brpop", "bzpopmin", "bzpopmax", "xread", "xreadgroup"}
# ... or in the error.
KEYS_IN_ERROR = {"xautoclaim", "xclaim", "xpending", "xgroup", "xinfo"}
CONNECTION = {"watch", "unwatch", "multi", "exec", "discard"}

# A command whose keys are given as KEYS, as a script that only lacks their places: see in_script().
SCRIPT = ("local a,k={},0 for i,v in ipairs(ARGV) do if v=='<key>' then k=k+1 a[i]=KEYS[k] else a[i]=v end end "
          "return redis.pcall(unpack(a))")


class Command:
    """Words of which some are keys."""

    def __init__(self, text):
        text = text.strip()
        self.loose = text[:1] if text[:1] in "~?" else ""
        self.tokens = text.lstrip("~?").split()
        self.name = self.tokens[0].lower()
        self.key_positions = [i for i, t in enumerate(self.tokens) if t.startswith("@")]
        self.has_pattern = any("*" in self.tokens[i] for i in self.key_positions)

    def words(self, before, dump=None):
        """As arguments, with `before` in front of each key. dump(key): what DUMP says of it."""
        out = []
        for token in self.tokens:
            if token.startswith("@"):
                token = before + token[1:]
            elif token.startswith("sha:"):
                token = hashlib.sha1(token[4:].encode()).hexdigest()
            elif token.startswith("dump:"):
                token = dump(before + token[5:])
            out.append(token)
        return out

    def in_script(self, before, dump=None, script=SCRIPT):
        """The same as an EVAL with its keys in KEYS."""
        words = self.words(before, dump)
        keys = [words[i] for i in self.key_positions]
        return ["EVAL", script, len(keys), *keys,
                *("<key>" if i in self.key_positions else w for i, w in enumerate(words))]

    def same(self, a, b):
        """Whether replies of two servers are the same, as far as they have to be."""
        if a == b:
            return True
        if self.loose == "?":
            return canonical(parse(a)) == canonical(parse(b))
        if self.loose == "~":
            return shape(parse(a)) == shape(parse(b))
        return self.name in TIMES and near_in_time(a, b, 1 if "p" not in self.name[:1] else 1000)

    def __repr__(self):
        return " ".join(self.tokens)


class Example:
    def __init__(self, name, text):
        self.name, self.text = name, text.strip()
        self.commands = [Command(part) for part in self.text.split(" ; ")]

    def uses(self, names):
        return not {c.name for c in self.commands}.isdisjoint(names)

    @property
    def has_pattern(self):
        return any(c.has_pattern for c in self.commands)

    def __repr__(self):
        return self.text


def canonical(value):
    if isinstance(value, dict):
        return ("map", sorted((repr(canonical(k)), repr(canonical(v))) for k, v in value.items()))
    if isinstance(value, (list, tuple)):
        return ("list", sorted(repr(canonical(v)) for v in value))
    return value


def shape(value):
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [shape(v) for v in value]
    return type(value)


def near_in_time(a, b, second, slack=5):
    return a[:1] == b[:1] == b":" and abs(int(a[1:]) - int(b[1:])) <= slack * second and (int(a[1:]) < 0) == (int(b[1:]) < 0)


def _examples():
    out = {}
    for line in EXAMPLES.strip().splitlines():
        name, _, rest = line.partition(": ")
        out[name] = [Example(name, text) for text in rest.split(" | ")]
    return out


ALL = _examples()
PREPARED = [Command(text) for line in PREPARE.strip().splitlines() for text in line.split(" | ")]


# ---- what Redis and the command table say ----

class Table:
    """COMMAND of a server: {"object|encoding": row}. A server before 7.0 tells of no subcommands."""

    def __init__(self, conn):
        self.rows = {}
        for row in conn.cmd("COMMAND"):
            for one in [row, *(row[9] if len(row) > 9 else [])]:
                self.rows[one[0].decode()] = one

    def __contains__(self, name):
        return name in self.rows or name.split("|")[0] in self.rows and not any(r.startswith(name.split("|")[0] + "|") for r in self.rows)

    def row(self, name):
        return self.rows.get(name) or self.rows.get(name.split("|")[0])

    def flags(self, name):
        return set(self.row(name)[2]) if self.row(name) else set()

    def categories(self, name):
        return set(self.row(name)[6]) if self.row(name) else set()

    def takes_keys(self, name):
        row = self.rows[name]
        if len(row) < 9:
            return row[3] > 0 or "movablekeys" in row[2]
        flags = [dict(zip(spec[::2], spec[1::2]))[b"flags"] for spec in row[8]]
        return any("not_key" not in f and b"not_key" not in f for f in flags)

    def with_keys(self):
        return {name for name in self.rows if self.takes_keys(name)}


def table_of_keyweir():
    """{name: (whether it takes keys, whether it writes)} of src/command/commands.def, with what newer servers have."""
    with open(os.path.join(TOP, "src/command/commands.def"), encoding="ascii") as file:
        rows = re.split(r"(?m)^ROW\(", file.read())[1:]
    out = {}
    for row in rows:
        # A key spec is KEY(flags, begin, find); that of a channel has KEY_NOT_KEY.
        specs = re.findall(r"\bKEY\(([^,]*),", row)
        out[re.match(r'\w+, "([^"]+)"', row)[1]] = (any("KEY_NOT_KEY" not in s for s in specs), "CMD_WRITE" in row)
    return out


def writes():
    """Names of the examples' commands that may write: those of CMD_WRITE, and scripts."""
    table = table_of_keyweir()
    return [n for n in ALL if table.get(n, (True, False))[1] or n in ("eval", "evalsha", "fcall")]


# ---- what is in a server ----

READ = {"string": ["GET"], "list": ["LRANGE", 0, -1], "set": ["SMEMBERS"], "hash": ["HGETALL"],
        "zset": ["ZRANGE", 0, -1, "WITHSCORES"], "stream": ["XRANGE", "-", "+"]}


def keys_of(conn):
    """All of its keys, by SCAN."""
    out, cursor = set(), b"0"
    while True:
        cursor, some = conn.cmd("SCAN", cursor, "COUNT", 1000)
        out.update(some)
        if cursor == b"0":
            return out


def values_of(conn, keys=None):
    """{key: (type, value)}."""
    keys = sorted(keys_of(conn) if keys is None else keys)
    types = [parse(r) for r in conn.pipeline([["TYPE", k] for k in keys])]
    values = [parse(r) for r in conn.pipeline([[READ[t][0], k, *READ[t][1:]] for k, t in zip(keys, types)])]
    return {k: (t, sorted(v) if t == "set" else dict(zip(v[::2], v[1::2])) if t == "hash" else v)
            for k, t, v in zip(keys, types, values)}


def pttls_of(conn):
    keys = sorted(keys_of(conn))
    return dict(zip(keys, (parse(r) for r in conn.pipeline([["PTTL", k] for k in keys]))))


def load_functions(conn):
    reply = conn.cmd("FUNCTION", "LOAD", "REPLACE", FUNCTIONS)
    return not isinstance(reply, RespError)
