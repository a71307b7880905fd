"""Model families, in Hugging Face's files and parameter names."""

from pymodel.models.auto import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForNextSentencePrediction,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
    from_pretrained,
)
from pymodel.models.bart import BartForConditionalGeneration, BartForSequenceClassification, BartModel
from pymodel.models.bart_config import BartConfig
from pymodel.models.bert import (
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)
from pymodel.models.bert_config import BertConfig
from pymodel.models.cache import KeyValueCache
from pymodel.models.config import PretrainedConfig
from pymodel.models.distilbert import (
    DistilBertForMaskedLM,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertModel,
)
from pymodel.models.distilbert_config import DistilBertConfig
from pymodel.models.encoder import EncoderModel
from pymodel.models.gpt2 import GPT2LMHeadModel, GPT2Model
from pymodel.models.gpt2_config import GPT2Config
from pymodel.models.llama import (
    LlamaForCausalLM,
    LlamaModel,
    MistralForCausalLM,
    MistralModel,
    Qwen2ForCausalLM,
    Qwen2Model,
)
from pymodel.models.llama_config import LlamaConfig, MistralConfig, Qwen2Config
from pymodel.models.marian import MarianModel, MarianMTModel
from pymodel.models.marian_config import MarianConfig
from pymodel.models.outputs import BaseModelOutput, CausalLMOutput
from pymodel.models.pretrained import PretrainedModel
from pymodel.models.roberta import (
    RobertaForMaskedLM,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
from pymodel.models.roberta_config import RobertaConfig
from pymodel.models.t5 import T5EncoderModel, T5ForConditionalGeneration, T5Model
from pymodel.models.t5_config import T5Config
from pymodel.models.transformer import TransformerForConditionalGeneration, TransformerModel
from pymodel.models.transformer_config import TransformerConfig

__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForNextSentencePrediction",
    "AutoModelForPreTraining",
    "AutoModelForQuestionAnswering",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTextEncoding",
    "AutoModelForTokenClassification",
    "BartConfig",
    "BartForConditionalGeneration",
    "BartForSequenceClassification",
    "BartModel",
    "BaseModelOutput",
    "BertConfig",
    "BertForMaskedLM",
    "BertForNextSentencePrediction",
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertModel",
    "CausalLMOutput",
    "DistilBertConfig",
    "DistilBertForMaskedLM",
    "DistilBertForQuestionAnswering",
    "DistilBertForSequenceClassification",
    "DistilBertForTokenClassification",
    "DistilBertModel",
    "EncoderModel",
    "GPT2Config",
    "GPT2LMHeadModel",
    "GPT2Model",
    "KeyValueCache",
    "LlamaConfig",
    "LlamaForCausalLM",
    "LlamaModel",
    "MarianConfig",
    "MarianMTModel",
    "MarianModel",
    "MistralConfig",
    "MistralForCausalLM",
    "MistralModel",
    "PretrainedConfig",
    "PretrainedModel",
    "Qwen2Config",
    "Qwen2ForCausalLM",
    "Qwen2Model",
    "RobertaConfig",
    "RobertaForMaskedLM",
    "RobertaForQuestionAnswering",
    "RobertaForSequenceClassification",
    "RobertaForTokenClassification",
    "RobertaModel",
    "T5Config",
    "T5EncoderModel",
    "T5ForConditionalGeneration",
    "T5Model",
    "TransformerConfig",
    "TransformerForConditionalGeneration",
    "TransformerModel",
    "from_pretrained",
]
