def check(world, whole):
    assert not world.faults, world.faults
    assert not world.trace.faults, world.trace.faults
