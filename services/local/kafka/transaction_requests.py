"""Answers the requests about producer ids and transactions; never awaits."""

from services.local.kafka.batch import ProducerId
from services.local.kafka.coordination_messages import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    InitProducerIdResponse,
    TopicErrors,
    TransactionErrorsResponse,
    TxnOffsetCommitRequest,
)
from services.local.kafka.coordinator import position_of
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.messages import CodeResponse, PartitionCode
from services.local.kafka.transactions import TransactionalProducer, Transactions


def init_producer_id(
    transactions: Transactions, request: InitProducerIdRequest, now_ms: int
) -> InitProducerIdResponse:
    """Give a producer its id, and its transactional id if it has one to itself."""
    try:
        if request.transactional_id is None:
            producer = transactions.begin_idempotent()
        else:
            timeout_ms = request.transaction_timeout_ms
            producer = transactions.begin_transactional(request.transactional_id, timeout_ms, now_ms)
    except Refused as refusal:
        return InitProducerIdResponse(error_code=refusal.code)
    return InitProducerIdResponse(producer_id=producer.producer_id, producer_epoch=producer.epoch)


def add_partitions(
    transactions: Transactions, request: AddPartitionsToTxnRequest, now_s: float
) -> TransactionErrorsResponse:
    """Take partitions into a transaction."""

    def code_of(topic: str, partition: int) -> ErrorCode:
        try:
            name = request.transactional_id
            transactions.add_partition(_identity(request), name, (topic, partition), now_s)
        except Refused as refusal:
            return refusal.code
        return ErrorCode.NONE

    errors = [
        TopicErrors(
            topic=item.topic,
            partition_errors=[
                PartitionCode(partition=number, error_code=code_of(item.topic, number))
                for number in item.partitions
            ],
        )
        for item in request.topics
    ]
    return TransactionErrorsResponse(errors=errors)


def add_offsets(transactions: Transactions, request: AddOffsetsToTxnRequest, now_s: float) -> CodeResponse:
    """Take a group's positions into a transaction."""
    try:
        transactions.add_group(_identity(request), request.transactional_id, now_s)
    except Refused as refusal:
        return CodeResponse(error_code=refusal.code)
    return CodeResponse(error_code=ErrorCode.NONE)


def commit_offsets(
    transactions: Transactions, request: TxnOffsetCommitRequest, now_s: float
) -> TransactionErrorsResponse:
    """Remember positions that count when the transaction commits."""
    code = ErrorCode.NONE
    try:
        for topic in request.topics:
            for commit in topic.partitions:
                position = position_of(request.group, topic.topic, commit)
                transactions.add_position(_identity(request), request.transactional_id, position, now_s)
    except Refused as refusal:
        code = refusal.code
    errors = [
        TopicErrors(
            topic=topic.topic,
            partition_errors=[
                PartitionCode(partition=commit.partition, error_code=code) for commit in topic.partitions
            ],
        )
        for topic in request.topics
    ]
    return TransactionErrorsResponse(errors=errors)


def end_transaction(transactions: Transactions, request: EndTxnRequest, now_ms: int) -> CodeResponse:
    """Commit or abort."""
    try:
        transactions.end(_identity(request), request.transactional_id, request.transaction_result, now_ms)
    except Refused as refusal:
        return CodeResponse(error_code=refusal.code)
    return CodeResponse(error_code=ErrorCode.NONE)


def _identity(
    request: AddPartitionsToTxnRequest | AddOffsetsToTxnRequest | TxnOffsetCommitRequest | EndTxnRequest,
) -> TransactionalProducer:
    return TransactionalProducer(producer_id=ProducerId(request.producer_id), epoch=request.producer_epoch)
