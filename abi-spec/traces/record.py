"""Runs programs of abi-spec on the reference implementation, and prints them with what their bodies saw.

    cargo run -p abi-spec --example programs calls 1 100 | python3 record.py DIRECTORY_OF_DEFINITIONS_PY 1 > calls.txt

The reference decides where the law leaves something open. With a number of seeds other than 1, each program is run with
as many, and its logs are printed that differ in what some body saw. What it prints it can read again. Each run has a process of its own, because a trap
leaves the reference's threads where they are.
"""

import os
import random
import signal
import sys
import threading

sys.path.insert(0, sys.argv[1])
import definitions as d  # noqa: E402

BLOCKED = 0xFFFF_FFFF
SLOTS = 16
MEMORY = 64


class Choices:
    """Stands in for `random` in the reference: the same choices in every run."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def choice(self, threads):
        return self.rng.choice(sorted(threads, key=lambda thread: thread.serial))

    def shuffle(self, elems):
        self.rng.shuffle(elems)

    def randint(self, low, high):
        return self.rng.randint(low, high)


def number_threads():
    serial = [0]
    init = d.Thread.__init__

    def numbered(self, task, thread_func):
        serial[0] += 1
        self.serial = serial[0]
        init(self, task, thread_func)

    d.Thread.__init__ = numbered


class HostInstance(d.ComponentInstance):
    """The host has a table like an instance, but is never entered."""

    def self_and_ancestors(self):
        return set()


class Agent:
    """An instance: the reference's part of it, and what its guests keep."""

    def __init__(self, world, number, comp, destructor):
        self.world = world
        self.number = number
        self.comp = comp
        self.slots = d.MemInst(bytearray(4 * SLOTS), "i32")
        memory = bytearray((number * MEMORY + i) & 0xFF for i in range(MEMORY))
        self.memory = d.MemInst(memory, "i32")
        self.bodies = 0
        self.rt = d.ResourceType(comp, self.destroyer(destructor))

    def destroyer(self, script):
        if script is None:
            return None

        def destroy(args):
            Body(self, script, "sync").begin([(0, args[0])]).run()
            return []

        return destroy

    def slot(self, slot):
        return int.from_bytes(self.slots.bytes[4 * slot : 4 * slot + 4], "little")

    def set_slot(self, slot, value):
        self.slots.bytes[4 * slot : 4 * slot + 4] = value.to_bytes(4, "little")


class Body:
    """A script that runs."""

    def __init__(self, agent, script, lift, result=False):
        self.agent = agent
        self.world = agent.world
        self.ops = agent.world.scripts[script]
        self.lift = lift
        self.result = result
        self.pc = 0
        self.returned = False

    def begin(self, args):
        self.agent.bodies += 1
        self.number = self.agent.bodies
        for slot, value in args:
            self.agent.set_slot(slot, value)
        self.log(0, " ".join(["start"] + [str(value) for _, value in args]))
        return self

    def log(self, at, text):
        self.world.log.append(f"{self.agent.number}.{self.number}.{at} {text}")

    def run(self, after_op=lambda: None):
        """Goes on with the list until the body returns. What it returns is a code of a callback, or a value."""
        while self.pc < len(self.ops):
            op = self.ops[self.pc]
            self.pc += 1
            match op:
                case ["exit"]:
                    self.pc = len(self.ops)
                    return 0
                case ["return", value]:
                    if self.lift == "sync" and not self.returned:
                        self.returned = True
                        return self.arg(value)
                case ["yield"] | ["wait", _] | ["bad-code"]:
                    if self.lift == "callback":
                        return self.code(op)
                case ["store", ptr, value]:
                    self.agent.memory.bytes[int(ptr) : int(ptr) + 4] = self.arg(value).to_bytes(4, "little")
                case _:
                    at = self.pc - 1
                    outcome = self.built_in(op[0], op[1:])
                    self.log(at, "blocked" if outcome == BLOCKED else str(outcome))
                    after_op()
        return 0

    def code(self, op):
        match op:
            case ["yield"]:
                return 1
            case ["wait", si]:
                return 2 | self.agent.slot(int(si)) << 4
        return 3

    def arg(self, word):
        return int(word[1:]) if word[0] == "#" else self.agent.slot(int(word[1:]))

    def built_in(self, name, operands):
        family, _, rest = name.partition(".")
        if family in ("stream", "future"):
            return self.end_op(family, rest, operands)
        if family == "thread":
            return self.thread_op(rest, operands)
        return self.other_op(name, operands)

    def end_op(self, family, name, operands):
        agent = self.agent
        elem = self.world.elem(operands[0])
        t = (d.StreamType if family == "stream" else d.FutureType)(elem)
        canon = getattr(d, f"canon_{family}_{name.replace('-', '_')}")
        if name == "new":
            [packed] = canon(t)
            r, w = packed & BLOCKED, packed >> 32
            agent.set_slot(int(operands[1]), r)
            agent.set_slot(int(operands[2]), w)
            return f"ends {r} {w}"
        if name in ("read", "write"):
            opts = d.CanonicalOptions(memory=agent.memory, async_=operands[1] == "async")
            i, ptr, n = agent.slot(int(operands[2])), int(operands[3]), int(operands[4])
            return one(canon(t, opts, i, ptr, n) if family == "stream" else canon(t, opts, i, ptr))
        if name.startswith("cancel"):
            return one(canon(t, operands[1] == "async", agent.slot(int(operands[2]))))
        return one(canon(t, agent.slot(int(operands[1]))))

    def thread_op(self, name, operands):
        agent = self.agent
        if name == "new-indirect":
            return self.thread_new(int(operands[0]), int(operands[1]))
        if name == "index":
            i = one(d.canon_thread_index())
            agent.set_slot(int(operands[0]), i)
            return i
        canon = getattr(d, "canon_thread_" + name.replace("-", "_"))
        if name == "resume-later":
            return one(canon(agent.slot(int(operands[0]))))
        if name in ("suspend", "yield"):
            return int(one(canon(operands[0] == "cancellable")))
        return int(one(canon(operands[1] == "cancellable", agent.slot(int(operands[0])))))

    def thread_new(self, script, slot):
        agent = self.agent
        ft = d.CoreFuncType(["i32"], [])

        def callee(args):
            Body(agent, script, "thread").begin([]).run()
            return []

        table = d.Table()
        index = table.add(d.CoreFuncRef(ft, callee))
        i = one(d.canon_thread_new_indirect(ft, table, index, 0))
        agent.set_slot(slot, i)
        return i

    def other_op(self, name, o):
        agent = self.agent
        match name:
            case "waitable-set.new":
                i = one(d.canon_waitable_set_new())
                agent.set_slot(int(o[0]), i)
                return i
            case "waitable-set.wait" | "waitable-set.poll":
                canon = d.canon_waitable_set_wait if name.endswith("wait") else d.canon_waitable_set_poll
                scratch = d.MemInst(bytearray(8), "i32")
                code = one(canon(o[1] == "cancellable", scratch, agent.slot(int(o[0])), 0))
                return event(code, *(int.from_bytes(scratch.bytes[at : at + 4], "little") for at in (0, 4)))
            case "waitable-set.drop":
                return one(d.canon_waitable_set_drop(agent.slot(int(o[0]))))
            case "waitable.join":
                return one(d.canon_waitable_join(agent.slot(int(o[0])), self.arg(o[1])))
            case "call":
                return self.call(o)
            case "subtask.cancel":
                return int(one(d.canon_subtask_cancel(o[0] == "async", agent.slot(int(o[1])))))
            case "subtask.drop":
                return one(d.canon_subtask_drop(agent.slot(int(o[0]))))
            case "task.return":
                return self.task_return(o[0])
            case "task.cancel":
                return one(d.canon_task_cancel())
            case "resolve":
                told = d.current_task().state == d.Task.State.CANCEL_DELIVERED
                return one(d.canon_task_cancel()) if told else self.task_return(o[0])
            case "backpressure.inc":
                return one(d.canon_backpressure_inc())
            case "backpressure.dec":
                return one(d.canon_backpressure_dec())
            case "context.get":
                return one(d.canon_context_get("i32", int(o[0])))
            case "context.set":
                return one(d.canon_context_set("i32", int(o[0]), self.arg(o[1])))
            case "resource.new":
                i = one(d.canon_resource_new(agent.rt, int(o[0])))
                agent.set_slot(int(o[1]), i)
                return i
            case "resource.rep":
                return one(d.canon_resource_rep(agent.rt, agent.slot(int(o[0]))))
            case "resource.drop":
                return one(d.canon_resource_drop(self.world.agents[int(o[0])].rt, agent.slot(int(o[1]))))
            case "load":
                return int.from_bytes(agent.memory.bytes[int(o[0]) : int(o[0]) + 4], "little")
            case "gate.wait":
                gates, gate = self.world.gates, int(o[0])
                return int(d.current_thread().wait_until(lambda: gate in gates, cancellable=True))
            case "gate.open":
                self.world.gates.add(int(o[0]))
                return 0
        raise ValueError(name)

    def task_return(self, word):
        task = d.current_task()
        args = [self.arg(word)] if task.ft.result else []
        return one(d.canon_task_return(task.ft.result, task.opts, args))

    def call(self, o):
        agent = self.agent
        func = self.world.funcs[int(o[0])]
        is_async = o[1] == "async"
        args = [self.arg(word) for word in o[2:5]][: len(func.params)]
        sub, ret = int(o[5]), int(o[6])
        opts = d.CanonicalOptions(memory=agent.slots, async_=is_async)
        if is_async and func.result:
            args.append(4 * ret)
        result = one(d.canon_lower(func.instance(), func.type(), opts, args))
        if not is_async and func.result:
            agent.set_slot(ret, result)
        if is_async and result >> 4:
            agent.set_slot(sub, result >> 4)
        return int(result)


def one(results):
    return results[0] if results else 0


def event(code, p1, p2):
    return f"event {int(code)} {p1} {p2}"


class Func:
    """A function that an instance or the host exports."""

    def __init__(self, world, words):
        self.world = world
        self.agent = int(words[0])
        self.is_async = words[1] == "async"
        self.lift = words[2]
        self.body = int(words[3])
        params = [word.split(":") for word in words[4:7] if word != "-"]
        self.params = [(ty, int(slot)) for ty, slot in params]
        self.result = None if words[7] == "-" else words[7]

    def type(self):
        params = [self.world.type(ty) for ty, _ in self.params]
        result = [self.world.type(self.result)] if self.result else []
        return d.FuncType(params, result, async_=self.is_async)

    def instance(self):
        """For one call: the reference asks for the body's parts by options."""
        agent = self.world.agents[self.agent]
        body = Body(agent, self.body, self.lift)
        opts = d.CanonicalOptions(memory=agent.slots, async_=self.lift != "sync")

        def begin(args):
            body.begin([(slot, value) for (_, slot), value in zip(self.params, args)])

        def sync(args):
            begin(args)
            value = body.run()
            return [value if body.returned else 0] if self.result else []

        def post_return(results):
            if body.returned:
                body.run()
            return []

        def stackful(args):
            begin(args)
            body.run()
            return []

        def callback_start(args):
            begin(args)
            return [body.run()]

        def callback(args):
            body.log(body.pc - 1, event(*args))
            return [body.run()]

        core = {"sync": sync, "stackful": stackful, "callback": callback_start}[self.lift]
        if self.lift == "sync":
            opts.post_return = post_return
        if self.lift == "callback":
            opts.callback = callback
        ft = self.type()
        if self.agent == 0:
            return lambda on_start, on_resolve, caller: d.canon_lift(core, ft, opts, agent.comp, on_start, on_resolve)
        return self.world.store.lift(core, ft, opts, agent.comp)


class World:
    """A program on the reference implementation."""

    def __init__(self, lines):
        self.store = d.Store()
        self.log = []
        self.gates = set()
        self.scripts = []
        self.host = []
        funcs, instances = [], []
        for line in lines:
            words = line.split()
            match words[0]:
                case "//":
                    pass
                case "instance":
                    instances.append(words[1:])
                case "func":
                    funcs.append(words[1:])
                case "host":
                    self.host.append(int(words[1]))
                case "script":
                    self.scripts.append([])
                case _:
                    self.scripts[-1].append(words)
        self.agents = [Agent(self, 0, HostInstance(self.store), None)]
        for number, (parent, destructor) in enumerate(instances, 1):
            parent = None if parent == "-" else self.agents[int(parent)].comp
            destructor = None if destructor == "-" else int(destructor)
            self.agents.append(Agent(self, number, d.ComponentInstance(self.store, parent), destructor))
        self.funcs = [Func(self, words) for words in funcs]

    def elem(self, word):
        match word:
            case "unit":
                return None
            case "u8" | "u16" | "u32" | "u64":
                return getattr(d, word.upper() + "Type")()
            case "stream":
                return d.StreamType(d.U8Type())
            case "future":
                return d.FutureType(d.U8Type())
        return d.OwnType(self.agents[int(word.removeprefix("own"))].rt)

    def type(self, word):
        kind, slash, elem = word.partition("/")
        if slash:
            return (d.StreamType if kind == "stream" else d.FutureType)(self.elem(elem))
        if word.startswith("borrow"):
            return d.BorrowType(self.agents[int(word.removeprefix("borrow"))].rt)
        return d.U32Type() if word == "u32" else self.elem(word)

    def start_host_script(self, script):
        agent = self.agents[0]
        task = d.Task(d.FuncType([], [], async_=True), d.CanonicalOptions(async_=True), agent.comp, None, None)
        task.state = d.Task.State.RESOLVED
        agent.bodies += 1
        body = Body(agent, script, "host")
        body.number = agent.bodies

        def give_way():
            # Not `wait_until`, which may go on at once: that would be a turn too long if somebody switched to us.
            thread.start_waiting_internal(lambda: True)
            thread.block_internal(False)

        def thread_func():
            body.run(give_way)
            task.unregister_thread(thread)

        thread = d.Thread(task, thread_func)
        task.register_thread(thread)
        thread.resume_later()

    def run(self):
        for script in self.host:
            self.start_host_script(script)
        while any(thread.ready() for thread in self.store.waiting):
            self.store.tick()


def run(seed, lines, out):
    """Runs a program in this process, which ends with it."""
    d.random = Choices(seed)
    world = World(lines)

    def finish(last):
        os.write(out, "\n".join(world.log + [last]).encode())
        os._exit(0)

    def failed(args):
        if args.exc_type is d.Trap:
            finish("trap")
        sys.excepthook(args.exc_type, args.exc_value, args.exc_traceback)
        finish("the reference failed: " + args.exc_type.__name__)

    threading.excepthook = failed
    signal.alarm(3)
    world.run()
    finish("end")


def record(seed, lines):
    """Runs a program in a process of its own. Returns its log."""
    from_child, out = os.pipe()
    child = os.fork()
    if child == 0:
        run(seed, lines, out)
    os.close(out)
    with os.fdopen(from_child) as log:
        text = log.read()
    _, status = os.waitpid(child, 0)
    return text.split("\n") if status == 0 else ["the reference hangs"]


def views(log):
    """What each body saw, and how the run ended."""
    bodies = {}
    for line in log:
        bodies.setdefault(line.split()[0].rpartition(".")[0], []).append(line)
    return str(sorted(bodies.items()))


def programs(lines):
    number, text, in_log = None, [], False
    for line in lines:
        words = line.split()
        if words[:1] == ["program"]:
            if number is not None:
                yield number, text
            number, text, in_log = int(words[1]), [], False
        elif words == ["log"]:
            in_log = True
        elif words and not in_log:
            text.append(line.rstrip())
    if number is not None:
        yield number, text


def mend():
    """Where an assertion of the reference is wrong, which says nothing about what guests see."""
    # `SharedFutureImpl.drop` wants the pending buffer to be a reader's. It is a writer's: readers are dropped first.
    d.WritableBuffer = d.BufferGuestImpl


def main():
    number_threads()
    mend()
    seeds = int(sys.argv[2])
    for number, lines in programs(sys.stdin):
        print(f"program {number}")
        print("\n".join(lines))
        logs = [record(number if seeds == 1 else seed, lines) for seed in range(seeds)]
        for log in {views(log): log for log in reversed(logs)}.values():
            print("log")
            print("\n".join(log))
        sys.stdout.flush()


main()
